//! Checks of what receipts are matched by.

use std::sync::Arc;

use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::{DeliveryStatus, Message, Receipt, StatusEvent, Timestamp};

use super::sample::{Sample, of};
use super::views::write;
use crate::status::{Join, JoinKey, Status, Write};

async fn join(status: &dyn Status, sample: &Sample, id: impl ToString) -> Join {
    let keys = [JoinKey::new(&sample.channel, id)];
    status.joins(&keys).await.expect("the store answers").pop().expect("an answer for each key")
}

/// An event that a provider's id came with.
fn named(message: &Message, provider_id: &str, reached: DeliveryStatus) -> StatusEvent {
    StatusEvent { provider_id: Some(provider_id.into()), ..Sample::event(message, 0, reached) }
}

fn receipt(receipt: &Receipt) -> Write {
    Write::Receipt(Arc::new(receipt.clone()))
}

pub async fn the_halves_of_a_join_meet_in_either_order(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let message = sample.message(vec![sample.address("ana")]);
    let mut event = named(&message, "event first", DeliveryStatus::Sent);
    event.attempt = Some(Sample::attempt(&message, 3, OutcomeKind::Accepted));
    let bare = StatusEvent { attempt: None, ..event.clone() };
    let delivered = sample.receipt("event first", DeliveryStatus::Delivered);
    write(&*status, vec![of(event.clone())]).await;
    let half = Join { event: Some(bare.clone()), attempts: 3, receipt: None };
    assert_eq!(join(&*status, &sample, "event first").await, half);
    write(&*status, vec![receipt(&delivered)]).await;
    let both = Join { receipt: Some(delivered), ..half };
    assert_eq!(join(&*status, &sample, "event first").await, both);

    event.provider_id = Some("receipt first".into());
    let read = sample.receipt("receipt first", DeliveryStatus::Read);
    write(&*status, vec![receipt(&read)]).await;
    let half = Join { receipt: Some(read), ..Join::default() };
    assert_eq!(join(&*status, &sample, "receipt first").await, half);
    write(&*status, vec![of(event.clone())]).await;
    let second = Join { event: Some(StatusEvent { attempt: None, ..event }), attempts: 3, ..half };
    assert_eq!(join(&*status, &sample, "receipt first").await, second);

    let keys = ["receipt first", "nobody's", "event first"].map(|id| JoinKey::new(&sample.channel, id));
    assert_eq!(status.joins(&keys).await, Ok(vec![second, Join::default(), both]), "in the order of the keys");
    assert_eq!(
        join(&*status, &Sample::new(), "event first").await,
        Join::default(),
        "another channel's ids are others"
    );
    assert_eq!(status.joins(&[]).await, Ok(Vec::new()));
}

pub async fn a_join_keeps_the_greatest_of_each_half(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let message = sample.message(vec![sample.address("ana")]);
    let events = [DeliveryStatus::Retrying, DeliveryStatus::Sent, DeliveryStatus::Queued];
    for reached in events {
        write(&*status, vec![of(named(&message, "p", reached))]).await;
    }
    let mut failed_late = sample.receipt("p", DeliveryStatus::Failed);
    failed_late.at = Timestamp::from_millis(u64::MAX);
    let read = sample.receipt("p", DeliveryStatus::Read);
    for one in [&sample.receipt("p", DeliveryStatus::Delivered), &read, &failed_late] {
        write(&*status, vec![receipt(one)]).await;
    }
    let Join { event, receipt, .. } = join(&*status, &sample, "p").await;
    assert_eq!(event.map(|event| event.status), Some(DeliveryStatus::Sent));
    assert_eq!(receipt, Some(read), "what was read did not fail");
}

pub async fn only_what_a_receipt_can_be_about_waits_for_one(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let message = sample.message(vec![sample.address("ana")]);
    let unknown = Sample::event(&message, 0, DeliveryStatus::Unknown);
    for reached in DeliveryStatus::ALL {
        let event = Sample::event(&message, 0, reached);
        let waits = reached == DeliveryStatus::Unknown;
        assert_eq!(JoinKey::of_event(&event).len(), usize::from(waits), "`{reached}`");
        write(&*status, vec![of(event)]).await;
    }
    let mut delivered = sample.receipt("p", DeliveryStatus::Delivered);
    delivered.delivery_id = Some(unknown.delivery_id);
    write(&*status, vec![receipt(&delivered)]).await;
    let by_delivery = Join { event: Some(unknown.clone()), attempts: 0, receipt: Some(delivered.clone()) };
    let ours = format!("{}/0", unknown.delivery_id);
    assert_eq!(join(&*status, &sample, ours).await, by_delivery);
    let by_provider = Join { event: None, attempts: 0, receipt: Some(delivered) };
    assert_eq!(join(&*status, &sample, "p").await, by_provider);
    assert_eq!(status.conversation_with(&sample.tenant, &unknown.address).await, Ok(None), "no provider gave an id");
}

pub async fn an_address_is_in_the_conversation_of_its_latest_message(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let address = sample.address("ana 😀'%");
    let mut messages: Vec<Message> = (0..3).map(|_| sample.message(vec![address.clone()])).collect();
    for (message, conversation) in messages.iter_mut().zip(["order-41", "order-42 🚚", "order-43"]) {
        message.conversation_id = conversation.parse().expect("a plain word is a conversation id");
    }
    let with = async |address| status.conversation_with(&sample.tenant, address).await.expect("the store answers");
    assert_eq!(with(&address).await, None);
    let unnamed = of(Sample::event(&messages[2], 0, DeliveryStatus::Sent));
    for (index, latest) in [(1, 1), (0, 1)] {
        write(&*status, vec![of(named(&messages[index], "p", DeliveryStatus::Sent)), unnamed.clone()]).await;
        assert_eq!(with(&address).await.as_ref(), Some(&messages[latest].conversation_id));
    }
    assert_eq!(with(&sample.address("bob")).await, None);
    assert_eq!(status.conversation_with(&Sample::new().tenant, &address).await, Ok(None));
}
