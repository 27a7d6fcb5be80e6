//! Checks of listings, their pages and what purge leaves of them.

use std::sync::Arc;

use chat4all_proto::envelope::{OutcomeKind, Reason};
use chat4all_proto::http::MessagePage;
use chat4all_proto::{DeliveryStatus, Generation, Message, MessageId, Timestamp};

use super::sample::{Sample, of};
use super::views::{view, write};
use crate::status::{DeadLetterFilter, Error, Filter, JoinKey, PageRequest, Status, Write};

fn ids(page: &MessagePage) -> Vec<MessageId> {
    page.messages.iter().map(|message| message.message_id).collect()
}

async fn list(status: &dyn Status, sample: &Sample, filter: &Filter, page: &PageRequest) -> MessagePage {
    status.messages(&sample.tenant, filter, page, sample.now()).await.expect("the store answers")
}

/// Writes `count` messages to two addresses each, queued; oldest first.
async fn queued_messages(status: &dyn Status, sample: &Sample, count: usize) -> Vec<Arc<Message>> {
    let mut writes = Vec::new();
    let messages = (0..count)
        .map(|_| {
            let (row, message) = sample.message_to(&["ana", "bob"]);
            writes.push(row);
            writes.extend([0, 1].map(|index| of(Sample::event(&message, index, DeliveryStatus::Queued))));
            message
        })
        .collect();
    write(status, writes).await;
    messages
}

pub async fn a_conversation_is_listed_newest_first(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let mut messages: Vec<Message> = (0..6).map(|_| sample.message(vec![sample.address("ana")])).collect();
    messages[5].conversation_id = "order-43".parse().expect("a plain word is a conversation id");
    messages[4].accepted_at = messages[3].accepted_at; // the id decides
    let rows = [2, 0, 5, 3, 1, 4].map(|index: usize| Write::Message(Arc::new(messages[index].clone())));
    write(&*status, rows.into()).await;
    let list = async |conversation: &str| {
        let conversation = conversation.parse().expect("a plain word is a conversation id");
        status.conversation(&sample.tenant, &conversation, &sample.page(5), sample.now()).await.expect("it answers")
    };
    let page = list("order-42").await;
    let mut expected: Vec<_> = messages[..5].iter().map(|message| (message.accepted_at, message.message_id)).collect();
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(ids(&page), expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    assert_eq!(page.next_cursor, None, "a page that is exactly full is the last");
    assert_eq!(ids(&list("order-43").await), [messages[5].message_id]);
    assert_eq!(list("order-44").await, MessagePage { messages: Vec::new(), next_cursor: None });
}

pub async fn pages_join_without_gap_or_overlap_while_messages_arrive(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let messages = queued_messages(&*status, &sample, 25).await;
    let expected: Vec<MessageId> = messages.iter().rev().map(|message| message.message_id).collect();
    let filters = [
        Filter::default(),
        Filter { status: Some(DeliveryStatus::Queued), channel: None },
        Filter { status: None, channel: Some(sample.channel.clone()) },
        Filter { status: Some(DeliveryStatus::Queued), channel: Some(sample.channel.clone()) },
    ];
    let mut begun = Vec::new();
    for filter in &filters {
        begun.push(list(&*status, &sample, filter, &sample.page(7)).await);
    }
    let conversation = status.conversation(&sample.tenant, &sample.conversation, &sample.page(7), sample.now()).await;
    begun.push(conversation.expect("the store answers"));

    queued_messages(&*status, &sample, 10).await; // newer than every page that was begun
    for (index, mut page) in begun.into_iter().enumerate() {
        let mut found = ids(&page);
        while let Some(cursor) = page.next_cursor {
            let request = PageRequest { limit: 7, cursor: Some(cursor) };
            page = match filters.get(index) {
                Some(filter) => list(&*status, &sample, filter, &request).await,
                None => status
                    .conversation(&sample.tenant, &sample.conversation, &request, sample.now())
                    .await
                    .expect("the store answers"),
            };
            assert!(!page.messages.is_empty() && page.messages.len() <= 7, "listing {index}");
            found.extend(ids(&page));
        }
        assert_eq!(found, expected, "listing {index}");
    }
}

pub async fn a_listing_shows_each_message_once(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["a", "b", "c", "d"]);
    let (older, newer) = (DeliveryStatus::Queued, DeliveryStatus::Sent);
    let events = [older, older, newer, newer].into_iter().enumerate();
    let mut writes: Vec<Write> = events.map(|(index, reached)| of(Sample::event(&message, index, reached))).collect();
    writes.push(row);
    write(&*status, writes).await;
    for filter in [
        Filter::default(),
        Filter { status: Some(older), channel: None },
        Filter { status: None, channel: Some(sample.channel.clone()) },
    ] {
        let page = list(&*status, &sample, &filter, &sample.page(1)).await;
        assert_eq!((ids(&page), page.next_cursor), (vec![message.message_id], None), "{filter:?}");
    }
}

pub async fn filters_apply_to_one_delivery_together(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let other = Sample::new().channel;
    let to = vec![sample.address("ana"), chat4all_proto::Address { channel: other.clone(), target: "bob".into() }];
    let message = sample.message(to);
    let (failed, delivered) = (DeliveryStatus::Failed, DeliveryStatus::Delivered);
    let events = [of(Sample::event(&message, 0, failed)), of(Sample::event(&message, 1, delivered))];
    write(&*status, [Write::Message(Arc::new(message.clone()))].into_iter().chain(events).collect()).await;
    let unrouted = sample.message_to(&["ana"]);
    write(&*status, vec![unrouted.0]).await;

    for (reached, channel, found) in [
        (Some(failed), None, true),
        (Some(delivered), None, true),
        (Some(DeliveryStatus::Queued), None, false),
        (None, Some(&sample.channel), true),
        (None, Some(&other), true),
        (None, Some(&Sample::new().channel), false),
        (Some(failed), Some(&sample.channel), true),
        (Some(delivered), Some(&other), true),
        (Some(failed), Some(&other), false),
        (Some(delivered), Some(&sample.channel), false),
    ] {
        let filter = Filter { status: reached, channel: channel.cloned() };
        let page = list(&*status, &sample, &filter, &sample.page(9)).await;
        assert_eq!(ids(&page), if found { vec![message.message_id] } else { vec![] }, "{filter:?}");
    }
    let page = list(&*status, &sample, &Filter::default(), &sample.page(9)).await;
    assert_eq!(ids(&page), [unrouted.1.message_id, message.message_id], "no filter: those without deliveries too");
}

pub async fn a_delivery_leaves_the_listing_of_its_former_status(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    write(&*status, vec![row]).await;
    let reached = [DeliveryStatus::Queued, DeliveryStatus::Retrying, DeliveryStatus::Delivered];
    for now in reached {
        write(&*status, vec![of(Sample::event(&message, 0, now))]).await;
        for asked in reached {
            let filter = Filter { status: Some(asked), channel: None };
            let page = list(&*status, &sample, &filter, &sample.page(9)).await;
            assert_eq!(page.messages.len(), usize::from(asked == now), "`{asked}` while it is `{now}`");
        }
    }
}

pub async fn a_made_up_cursor_is_refused(status: Arc<dyn Status>) {
    let sample = Sample::new();
    queued_messages(&*status, &sample, 3).await;
    let real = list(&*status, &sample, &Filter::default(), &sample.page(1)).await.next_cursor.expect("two are left");
    let mut changed = real.clone().into_bytes();
    changed[3] = if changed[3] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("cursors are ASCII");
    let made_up =
        ["", "x", "1", "é", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "' OR 1=1", &changed, &real[1..], &"A".repeat(9_999)];
    for cursor in made_up {
        let page = PageRequest { limit: 1, cursor: Some(cursor.to_owned()) };
        let listed = status.messages(&sample.tenant, &Filter::default(), &page, sample.now()).await;
        assert_eq!(listed, Err(Error::BadCursor), "`{cursor}`");
        let listed = status.conversation(&sample.tenant, &sample.conversation, &page, sample.now()).await;
        assert_eq!(listed, Err(Error::BadCursor), "`{cursor}`");
    }
}

pub async fn purge_deletes_all_of_the_old_and_nothing_else(status: Arc<dyn Status>) {
    let old = Sample::starting(Timestamp::from_millis(86_400_000)); // 1970
    let bound = Timestamp::from_millis(315_532_800_000); // 1980
    let young = Sample::starting(bound);
    let (gone, kept) = (queued_messages(&*status, &old, 2_500).await, queued_messages(&*status, &young, 3).await);
    let mut event = Sample::event(&gone[0], 0, DeliveryStatus::Sent);
    event.provider_id = Some("wamid.old".into());
    event.attempt = Some(Sample::attempt(&gone[0], 1, OutcomeKind::Accepted));
    let (_, orphan) = old.message_to(&["nobody"]);
    write(&*status, vec![of(event), of(Sample::event(&orphan, 0, DeliveryStatus::Queued))]).await;

    let mut deleted = 0;
    loop {
        match status.purge(bound).await.expect("the store purges") {
            0 => break,
            some => deleted += some,
        }
    }
    assert!(deleted >= 2_500, "only {deleted} were deleted");
    for message in &gone {
        assert_eq!(view(&*status, message, old.now()).await, None);
    }
    assert_eq!(status.by_provider_id(&old.channel, "wamid.old").await, Ok(None));
    for message in &kept {
        assert_eq!(view(&*status, message, young.now()).await.expect("young").deliveries.len(), 2);
    }
    write(&*status, vec![Write::Message(Arc::clone(&gone[0])), Write::Message(orphan.clone())]).await;
    for message in [&gone[0], &orphan] {
        let again = view(&*status, message, old.now()).await.expect("it was written again");
        assert_eq!(again.deliveries, [], "deliveries went with their message, also those that never had one");
    }
    while status.purge(bound).await.expect("the store purges") > 0 {}
    assert_eq!(list(&*status, &old, &Filter::default(), &old.page(1)).await.messages, []);
}

pub async fn purge_takes_joins_contacts_and_dead_letters_with_their_messages(status: Arc<dyn Status>) {
    let bound = Timestamp::from_millis(315_532_800_000); // 1980
    let (old, young) = (Sample::starting(Timestamp::from_millis(86_400_000)), Sample::starting(bound));
    let mut replayed = Vec::new();
    for sample in [&old, &young] {
        let (row, message) = sample.message_to(&["ana", "bob", "cid"]);
        let mut event = Sample::event(&message, 0, DeliveryStatus::Sent);
        event.provider_id = Some("p".into());
        let [failed, kept] = [1, 2].map(|index| Sample::dead_letter(&message, index, Reason::RecipientGone));
        let replay = Message { generation: Generation(1), to: vec![message.to[1].clone()], ..(*message).clone() };
        let inbound = Write::Inbound(Arc::new(sample.inbound("ana")));
        let receipt = Write::Receipt(Arc::new(sample.receipt("p", DeliveryStatus::Read)));
        let letters = [&failed, &kept].map(|letter| Write::DeadLetter(Arc::new(letter.clone())));
        let writes = [row, of(event), receipt, Write::Message(Arc::new(replay)), inbound].into_iter().chain(letters);
        write(&*status, writes.collect()).await;
        replayed.push(failed);
    }
    while status.purge(bound).await.expect("the store purges") > 0 {}
    for (sample, letter, kept) in [(&old, &replayed[0], 0), (&young, &replayed[1], 1)] {
        let join = status.joins(&[JoinKey::new(&sample.channel, "p")]).await.expect("the store answers").remove(0);
        assert_eq!((join.event.is_some(), join.receipt.is_some()), (kept == 1, kept == 1));
        let contact = status.conversation_with(&sample.tenant, &sample.address("ana")).await;
        assert_eq!(contact.map(|contact| usize::from(contact.is_some())), Ok(kept));
        let row = status.dead_letter(&sample.tenant, letter.delivery.delivery_id).await.expect("the store answers");
        assert_eq!(row.map_or(0, |row| usize::from(row.is_replayed())), kept);
        let page = status.dead_letters(&sample.tenant, &DeadLetterFilter::default(), &sample.page(9)).await;
        assert_eq!(page.expect("the store answers").dead_letters.len(), kept);
        assert_eq!(list(&*status, sample, &Filter::default(), &sample.page(9)).await.messages.len(), 2 * kept);
    }
}
