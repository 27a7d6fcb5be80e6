//! Checks of what one message shows.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::{OutcomeKind, Reason};
use chat4all_proto::http::MessageView;
use chat4all_proto::{Content, DeliveryId, DeliveryStatus, Generation, Inbound, Message, MessageStatus, Timestamp};

use super::sample::{Sample, of};
use crate::status::{Filter, PageRequest, Status, Write};

pub(super) async fn view(status: &dyn Status, message: &Message, now: Timestamp) -> Option<MessageView> {
    status.message(&message.tenant, message.message_id, now).await.expect("the store answers")
}

pub(super) async fn write(status: &dyn Status, writes: Vec<Write>) {
    status.write(writes).await.expect("the store takes a write");
}

pub async fn a_write_is_seen_when_it_returns(status: Arc<dyn Status>) {
    let sample = Sample::new();
    for _ in 0..50 {
        let (row, message) = sample.message_to(&["ana"]);
        assert_eq!(view(&*status, &message, sample.now()).await, None, "not written yet");
        write(&*status, vec![row]).await;
        let seen = view(&*status, &message, sample.now()).await;
        assert_eq!(seen.expect("a written message is there").status, MessageStatus::Accepted);
        write(&*status, vec![of(Sample::event(&message, 0, DeliveryStatus::Delivered))]).await;
        let seen = view(&*status, &message, sample.now()).await.expect("it stays there");
        assert_eq!(seen.status, MessageStatus::Delivered);
    }
    write(&*status, Vec::new()).await;
}

pub async fn a_message_shows_what_was_sent(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let mut message = sample.message(vec![sample.address("ana"), sample.address("bob")]);
    message.metadata.insert("order".into(), 42.into());
    write(&*status, vec![Write::Message(Arc::new(message.clone()))]).await;
    let mut failed = Sample::event(&message, 1, DeliveryStatus::Failed);
    failed.attempt = Some(Sample::attempt(&message, 5, OutcomeKind::Transient));
    failed.reason = Some(Reason::AttemptsExhausted);
    let mut retrying = Sample::event(&message, 0, DeliveryStatus::Retrying);
    retrying.attempt = Some(Sample::attempt(&message, 1, OutcomeKind::Ambiguous));
    retrying.retry_at = Some(message.accepted_at.saturating_add(Duration::from_secs(2)));
    write(&*status, vec![of(failed.clone()), of(retrying.clone())]).await;

    let seen = view(&*status, &message, sample.now()).await.expect("a written message is there");
    assert_eq!((seen.message_id, seen.conversation_id), (message.message_id, message.conversation_id));
    assert_eq!((seen.to, seen.content, seen.metadata), (message.to, message.content, message.metadata));
    assert_eq!((seen.accepted_at, seen.expires_at), (message.accepted_at, Some(message.expires_at)));
    assert_eq!(seen.status, MessageStatus::Retrying);
    assert_eq!(seen.deliveries.len(), 2);
    for (delivery, event) in seen.deliveries.iter().zip([retrying, failed]) {
        assert_eq!((delivery.delivery_id, &delivery.to), (event.delivery_id, &event.address));
        assert_eq!((delivery.status, delivery.generation), (event.status, Generation(0)));
        assert_eq!((delivery.updated_at, delivery.retry_at), (event.at, event.retry_at));
        assert_eq!((delivery.reason, &delivery.provider_id), (event.reason, &None));
        let attempt = event.attempt.expect("both report one");
        let shown = &delivery.attempts[..];
        assert_eq!(shown, [chat4all_proto::http::AttemptView::of(attempt, Generation(0))]);
    }
}

pub async fn events_may_come_before_their_message(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    let mut event = Sample::event(&message, 0, DeliveryStatus::Sent);
    event.attempt = Some(Sample::attempt(&message, 1, OutcomeKind::Accepted));
    write(&*status, vec![of(event)]).await;
    assert_eq!(view(&*status, &message, sample.now()).await, None);
    let filter = Filter { status: Some(DeliveryStatus::Sent), channel: None };
    let list = async || status.messages(&sample.tenant, &filter, &sample.page(10), sample.now()).await;
    assert_eq!(list().await.expect("the store answers").messages, [], "no message, nothing to list");
    write(&*status, vec![row]).await;
    let seen = view(&*status, &message, sample.now()).await.expect("the message came");
    assert_eq!((seen.status, seen.deliveries[0].attempts.len()), (MessageStatus::Sent, 1));
    assert_eq!(list().await.expect("the store answers").messages, [seen]);
}

pub async fn deliveries_stand_in_the_order_of_the_addresses(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let targets: Vec<String> = (0..100).rev().map(|n| format!("user-{n}")).collect();
    let (row, message) = sample.message_to(&targets.iter().map(String::as_str).collect::<Vec<_>>());
    let mut writes: Vec<Write> =
        (0..100).map(|index| of(Sample::event(&message, index, DeliveryStatus::Delivered))).collect();
    writes.reverse();
    writes.push(row);
    write(&*status, writes).await;
    let seen = view(&*status, &message, sample.now()).await.expect("it was written");
    let order: Vec<&str> = seen.deliveries.iter().map(|delivery| &*delivery.to.target).collect();
    assert_eq!(order, targets);
    assert_eq!(seen.status, MessageStatus::Delivered);
}

pub async fn attempts_of_all_generations_are_kept_once_each(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    let mut writes = vec![row];
    for (generation, number, reached) in
        [(1, 2, DeliveryStatus::Delivered), (0, 3, DeliveryStatus::Failed), (0, 1, DeliveryStatus::Retrying)]
    {
        let mut event = Sample::event(&message, 0, reached);
        event.generation = Generation(generation);
        event.attempt = Some(Sample::attempt(&message, number, OutcomeKind::Transient));
        writes.push(of(event));
    }
    write(&*status, writes.clone()).await;
    for single in writes {
        write(&*status, vec![single]).await;
    }
    let seen = view(&*status, &message, sample.now()).await.expect("it was written");
    let attempts: Vec<_> =
        seen.deliveries[0].attempts.iter().map(|attempt| (attempt.generation.0, attempt.number)).collect();
    assert_eq!(attempts, [(0, 1), (0, 3), (1, 2)]);
}

pub async fn a_delivery_without_an_end_expires_by_itself(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["waits", "done"]);
    let mut waits = Sample::event(&message, 0, DeliveryStatus::Retrying);
    waits.retry_at = Some(message.expires_at);
    write(&*status, vec![row, of(waits), of(Sample::event(&message, 1, DeliveryStatus::Delivered))]).await;
    let late = message.expires_at.saturating_add(Duration::from_millis(1));
    let seen = view(&*status, &message, late).await.expect("it was written");
    let statuses: Vec<_> = seen.deliveries.iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [DeliveryStatus::Expired, DeliveryStatus::Delivered]);
    assert_eq!((seen.status, seen.deliveries[0].retry_at), (MessageStatus::Partial, None));
    let seen = view(&*status, &message, sample.now()).await.expect("it was written");
    assert_eq!(seen.status, MessageStatus::Retrying, "in time it has not expired");

    let stored = Filter { status: Some(DeliveryStatus::Retrying), channel: None };
    let page = status.messages(&sample.tenant, &stored, &sample.page(10), late).await.expect("the store answers");
    assert_eq!(page.messages.len(), 1, "listed under the stored status");
    assert_eq!(page.messages[0].status, MessageStatus::Partial, "and shown as it is now");
}

pub async fn a_replay_has_an_expiry_of_its_own(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    let mut queued = Sample::event(&message, 0, DeliveryStatus::Queued);
    queued.generation = Generation(1);
    queued.expires_at = message.expires_at.saturating_add(Duration::from_secs(3_600));
    write(&*status, vec![row, of(Sample::event(&message, 0, DeliveryStatus::Failed)), of(queued.clone())]).await;
    for (now, expected) in [(message.expires_at, DeliveryStatus::Queued), (queued.expires_at, DeliveryStatus::Expired)]
    {
        let seen = view(&*status, &message, now).await.expect("it was written");
        assert_eq!(seen.deliveries[0].status, expected, "at {now}");
    }
}

pub async fn a_received_message_is_one_of_its_conversation(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, sent) = sample.message_to(&["ana"]);
    let inbound = sample.inbound("ana");
    let again = Inbound { received_at: sample.now(), ..inbound.clone() };
    for inbound in [&again, &inbound, &again] {
        write(&*status, vec![Write::Inbound(Arc::new(inbound.clone()))]).await;
    }
    write(&*status, vec![row, of(Sample::event(&sent, 0, DeliveryStatus::Delivered))]).await;

    let late = sent.expires_at;
    let seen = status.message(&sample.tenant, inbound.message_id, late).await.expect("the store answers");
    let expected = MessageView {
        message_id: inbound.message_id,
        conversation_id: inbound.conversation_id,
        status: MessageStatus::Received,
        from: Some(inbound.from),
        to: Vec::new(),
        content: inbound.content,
        provider_id: Some(inbound.provider_id),
        reply_to: inbound.reply_to,
        metadata: Default::default(),
        accepted_at: inbound.received_at,
        expires_at: None,
        deliveries: Vec::new(),
    };
    assert_eq!(seen.as_ref(), Some(&expected), "as it came first");
    assert_eq!(status.accepted(&sample.tenant, inbound.message_id).await, Ok(None), "nobody sent it");
    assert_eq!(status.accepted(&sample.tenant, sent.message_id).await, Ok(Some((*sent).clone())));

    let both = vec![expected, view(&*status, &sent, late).await.expect("it was written")];
    let page = status.conversation(&sample.tenant, &sample.conversation, &sample.page(9), late).await;
    assert_eq!(page.expect("the store answers").messages, both);
    let list = async |filter| status.messages(&sample.tenant, &filter, &sample.page(9), late).await;
    assert_eq!(list(Filter::default()).await.expect("the store answers").messages, both);
    let of_channel = list(Filter { status: None, channel: Some(sample.channel.clone()) }).await;
    assert_eq!(of_channel.expect("the store answers").messages, both[1..]);
}

pub async fn any_text_comes_back_as_it_was(status: Arc<dyn Status>) {
    const TEXT: &str = "Olá, ação! 🚚 שלום ﷽ \u{0}\u{1f}\"\\ '; DROP TABLE messages; -- \u{10ffff}";
    let sample = Sample::new();
    let mut message = sample.message(vec![sample.address("ana 😀'%")]);
    message.conversation_id = "pedido nº 42 — 🚚' OR 1=1".parse().expect("text without control characters");
    message.content = Content::Text { text: TEXT.into() };
    message.metadata.insert(TEXT.into(), TEXT.into());
    let mut event = Sample::event(&message, 0, DeliveryStatus::Sent);
    event.provider_id = Some(TEXT.into());
    event.attempt = Some(Sample::attempt(&message, 1, OutcomeKind::Accepted));
    event.attempt.as_mut().expect("just set").detail = Some(TEXT.into());
    write(&*status, vec![Write::Message(Arc::new(message.clone())), of(event)]).await;

    let seen = view(&*status, &message, sample.now()).await.expect("it was written");
    assert_eq!((&seen.content, &seen.metadata, &seen.to), (&message.content, &message.metadata, &message.to));
    assert_eq!(seen.deliveries[0].provider_id.as_deref(), Some(TEXT));
    assert_eq!(seen.deliveries[0].attempts[0].detail.as_deref(), Some(TEXT));
    let found = status.by_provider_id(&sample.channel, TEXT).await.expect("the store answers");
    assert_eq!(found, Some((message.message_id, seen.deliveries[0].delivery_id)));
    let page = status.conversation(&sample.tenant, &message.conversation_id, &sample.page(2), sample.now()).await;
    assert_eq!(page.expect("the store answers").messages, [seen]);
}

pub async fn a_delivery_is_found_by_its_provider_id(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    let delivery = DeliveryId::of(message.message_id, &message.to[0]);
    let find = async |id: &str| status.by_provider_id(&sample.channel, id).await.expect("the store answers");
    assert_eq!(find("wamid.1").await, None);
    for (number, id, reached) in [(1, "wamid.1", DeliveryStatus::Retrying), (2, "wamid.2", DeliveryStatus::Sent)] {
        let mut event = Sample::event(&message, 0, reached);
        event.attempt = Some(Sample::attempt(&message, number, OutcomeKind::Ambiguous));
        event.provider_id = Some(id.into());
        write(&*status, vec![of(event)]).await;
    }
    write(&*status, vec![row, of(Sample::event(&message, 0, DeliveryStatus::Read))]).await;
    for id in ["wamid.1", "wamid.2"] {
        assert_eq!(find(id).await, Some((message.message_id, delivery)), "every id ever given leads to the delivery");
    }
    assert_eq!(find("wamid").await, None);
    let elsewhere = status.by_provider_id(&Sample::new().channel, "wamid.1").await;
    assert_eq!(elsewhere, Ok(None), "another channel's ids are others");
    let seen = view(&*status, &message, sample.now()).await.expect("it was written");
    assert_eq!(seen.deliveries[0].provider_id.as_deref(), Some("wamid.2"), "a receipt without the id keeps it");
}

pub async fn tenants_do_not_see_each_other(status: Arc<dyn Status>) {
    let (ours, theirs) = (Sample::new(), Sample::new());
    let (row, message) = ours.message_to(&["ana"]);
    let mut same_id = (*message).clone();
    same_id.tenant = theirs.tenant.clone();
    same_id.content = Content::Text { text: "theirs".into() };
    let (queued, delivered) = (DeliveryStatus::Queued, DeliveryStatus::Delivered);
    write(&*status, vec![row, of(Sample::event(&message, 0, queued))]).await;
    assert_eq!(view(&*status, &same_id, ours.now()).await, None);
    write(&*status, vec![Write::Message(Arc::new(same_id.clone()))]).await;
    write(&*status, vec![of(Sample::event(&same_id, 0, delivered))]).await;

    for (message, expected) in [(&*message, MessageStatus::Queued), (&same_id, MessageStatus::Delivered)] {
        let seen = view(&*status, message, ours.now()).await.expect("it was written");
        assert_eq!((seen.status, &seen.content), (expected, &message.content));
        let page = PageRequest { limit: 5, cursor: None };
        let listed = status.conversation(&message.tenant, &message.conversation_id, &page, ours.now()).await;
        assert_eq!(listed.expect("the store answers").messages, std::slice::from_ref(&seen));
        let listed = status.messages(&message.tenant, &Filter::default(), &page, ours.now()).await;
        assert_eq!(listed.expect("the store answers").messages, [seen]);
        let foreign = if expected == MessageStatus::Queued { delivered } else { queued };
        let filter = Filter { status: Some(foreign), channel: None };
        let listed = status.messages(&message.tenant, &filter, &page, ours.now()).await;
        assert_eq!(listed.expect("the store answers").messages, []);
    }
}
