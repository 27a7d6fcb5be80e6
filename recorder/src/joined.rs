//! What a receipt makes of the delivery it is about: pure functions.

use chat4all_proto::envelope::{OutcomeKind, Reason, Source, V1};
use chat4all_proto::receipt::Failure;
use chat4all_proto::{DeadLetter, DeliveryStatus, Message, Outbound, StatusEvent};
use chat4all_storage::status::Join;

/// A status that only the two halves of a join tell together.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Of the delivery, as of the receipt.
    pub event: StatusEvent,
    attempts: u32,
    code: Option<String>,
}

impl Joined {
    /// `None` while a half is missing, and where the receipt says no more than the event did.
    pub fn of(Join { event, attempts, receipt }: Join) -> Option<Self> {
        let (event, receipt) = (event?, receipt?);
        if receipt.status <= event.status {
            return None;
        }
        let failed = receipt.status == DeliveryStatus::Failed;
        Some(Self {
            event: StatusEvent {
                status: receipt.status,
                at: receipt.at,
                attempt: None,
                // An event that named its id has told it. One that was found by the delivery's id learns it here; then it
                // meets this very receipt, which says no more than it does.
                provider_id: event.provider_id.is_none().then_some(receipt.provider_id),
                reason: failed.then(|| reason(receipt.failure.as_ref())),
                retry_at: None,
                awaits_receipt: receipt.status == DeliveryStatus::Sent,
                ..event
            },
            attempts,
            code: receipt.failure.and_then(|failure| failure.code),
        })
    }

    /// What a replay needs, if the status is `failed`. `source` is the record that brought the halves together.
    pub fn dead_letter(&self, message: Message, source: Source) -> Option<DeadLetter> {
        let event = self.event.clone();
        Some(DeadLetter {
            v: V1,
            reason: event.reason?,
            attempts: self.attempts,
            code: self.code.clone(),
            failed_at: event.at,
            source,
            delivery: Outbound {
                v: V1,
                tenant: event.tenant,
                delivery_id: event.delivery_id,
                generation: event.generation,
                router_epoch: 0, // of no router: a replay is routed anew
                message_id: event.message_id,
                conversation_id: event.conversation_id,
                to: event.address,
                content: message.content,
                reply_to: message.reply_to,
                metadata: message.metadata,
                accepted_at: event.accepted_at,
                expires_at: event.expires_at,
            },
        })
    }
}

fn reason(failure: Option<&Failure>) -> Reason {
    match failure.map(|failure| failure.outcome) {
        Some(OutcomeKind::RecipientGone) => Reason::RecipientGone,
        Some(OutcomeKind::MessageRejected) => Reason::MessageRejected,
        Some(
            OutcomeKind::Accepted
            | OutcomeKind::Throttled
            | OutcomeKind::Transient
            | OutcomeKind::Ambiguous
            | OutcomeKind::AccountProblem,
        )
        | None => Reason::Undelivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_proto::{Receipt, Timestamp};
    use chat4all_storage::status::conformance::Sample;

    const AT: Timestamp = Timestamp::from_millis(1_795_300_009_000);

    fn event(sample: &Sample, status: DeliveryStatus, provider_id: Option<&str>) -> StatusEvent {
        let message = sample.message(vec![sample.address("ana")]);
        StatusEvent { provider_id: provider_id.map(Into::into), ..Sample::event(&message, 0, status) }
    }

    fn receipt(sample: &Sample, status: DeliveryStatus, outcome: Option<OutcomeKind>) -> Receipt {
        let failure = outcome.map(|outcome| Failure { outcome, code: Some("131026".into()) });
        Receipt { at: AT, failure, ..sample.receipt("p", status) }
    }

    #[test]
    fn a_receipt_tells_a_status_only_if_it_says_more() {
        use DeliveryStatus::*;
        let sample = Sample::new();
        for known in DeliveryStatus::ALL {
            for told in [Sent, Failed, Delivered, Read] {
                let join = Join {
                    event: Some(event(&sample, known, Some("p"))),
                    attempts: 1,
                    receipt: Some(receipt(&sample, told, None)),
                };
                let status = Joined::of(join).map(|joined| joined.event.status);
                assert_eq!(status, (told > known).then_some(told), "`{told}` of what is `{known}`");
            }
        }
    }

    #[test]
    fn a_half_alone_tells_nothing() {
        let sample = Sample::new();
        let event = event(&sample, DeliveryStatus::Sent, Some("p"));
        let receipt = receipt(&sample, DeliveryStatus::Read, None);
        assert_eq!(Joined::of(Join { event: Some(event), ..Join::default() }), None);
        assert_eq!(Joined::of(Join { receipt: Some(receipt), ..Join::default() }), None);
    }

    #[test]
    fn a_status_names_the_providers_id_only_if_the_event_did_not() {
        let sample = Sample::new();
        use DeliveryStatus::{Delivered, Sent, Unknown};
        for (known, provider_id, told, expected) in [
            (Sent, Some("p"), Delivered, None),
            (Unknown, None, Delivered, Some("p")),
            (Unknown, None, Sent, Some("p")),
        ] {
            let event = StatusEvent { awaits_receipt: known == Sent, ..event(&sample, known, provider_id) };
            let receipt = receipt(&sample, told, None);
            let expected = StatusEvent {
                status: told,
                at: AT,
                provider_id: expected.map(Into::into),
                awaits_receipt: told == Sent,
                ..event.clone()
            };
            let join = Join { event: Some(event), attempts: 1, receipt: Some(receipt) };
            assert_eq!(Joined::of(join).map(|joined| joined.event), Some(expected));
        }
    }

    #[test]
    fn a_failure_has_a_reason_and_a_dead_letter() {
        let sample = Sample::new();
        let source = || Source { topic: "status-updates".into(), partition: 2, offset: 7 };
        for (outcome, reason) in [
            (Some(OutcomeKind::RecipientGone), Reason::RecipientGone),
            (Some(OutcomeKind::MessageRejected), Reason::MessageRejected),
            (Some(OutcomeKind::Transient), Reason::Undelivered),
            (Some(OutcomeKind::AccountProblem), Reason::Undelivered),
            (None, Reason::Undelivered),
        ] {
            let message = sample.message(vec![sample.address("bob"), sample.address("ana")]);
            let event = Sample::event(&message, 1, DeliveryStatus::Sent);
            let receipt = receipt(&sample, DeliveryStatus::Failed, outcome);
            let joined = Joined::of(Join { event: Some(event), attempts: 3, receipt: Some(receipt) }).unwrap();
            assert_eq!((joined.event.reason, joined.event.status), (Some(reason), DeliveryStatus::Failed));
            let expected = DeadLetter {
                v: V1,
                reason,
                attempts: 3,
                code: outcome.map(|_| "131026".into()),
                failed_at: AT,
                source: source(),
                delivery: Outbound { router_epoch: 0, ..Sample::outbound(&message, 1) },
            };
            assert_eq!(joined.dead_letter(message, source()), Some(expected));
        }
    }
}
