//! Checks of dead letters: what they show, and which of them are listed.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::Reason;
use chat4all_proto::http::{DeadLetterPage, DeadLetterView};
use chat4all_proto::{Address, ChannelName, DeadLetter, DeliveryId, Generation, Message, TenantId};

use super::sample::Sample;
use super::views::write;
use crate::status::{DeadLetterFilter, DeadLetterRow, Error, Filter, PageRequest, Status, Write};

async fn list(status: &dyn Status, sample: &Sample, filter: &DeadLetterFilter, page: &PageRequest) -> DeadLetterPage {
    status.dead_letters(&sample.tenant, filter, page).await.expect("the store answers")
}

async fn stored(status: &dyn Status, letter: &DeadLetter) -> Option<DeadLetterRow> {
    let delivery = &letter.delivery;
    status.dead_letter(&delivery.tenant, delivery.delivery_id).await.expect("the store answers")
}

fn of(letter: &DeadLetter) -> Write {
    Write::DeadLetter(Arc::new(letter.clone()))
}

fn replay(message: &Message, generation: u32) -> Write {
    Write::Message(Arc::new(Message { generation: Generation(generation), ..message.clone() }))
}

pub async fn a_dead_letter_shows_what_failed(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let mut message = sample.message(vec![sample.address("ana"), sample.address("bob")]);
    message.metadata.insert("order".into(), 42.into());
    message.reply_to = Some("wamid.1".into());
    let letter = Sample::dead_letter(&message, 1, Reason::RecipientGone);
    assert_eq!(stored(&*status, &letter).await, None);
    write(&*status, vec![of(&letter)]).await;
    let row = DeadLetterRow { letter: letter.clone(), replayed_as: Generation(0) };
    assert_eq!(stored(&*status, &letter).await, Some(row), "without its message too");
    assert_eq!(status.dead_letter(&Sample::new().tenant, letter.delivery.delivery_id).await, Ok(None));

    let page = list(&*status, &sample, &DeadLetterFilter::default(), &sample.page(1)).await;
    let expected = DeadLetterView {
        delivery_id: letter.delivery.delivery_id,
        message_id: message.message_id,
        conversation_id: message.conversation_id,
        to: message.to[1].clone(),
        reason: Reason::RecipientGone,
        code: letter.code,
        attempts: 5,
        generation: Generation(0),
        accepted_at: message.accepted_at,
        failed_at: letter.failed_at,
        replayed: false,
        content: message.content,
        reply_to: message.reply_to,
        metadata: message.metadata,
    };
    assert_eq!(page, DeadLetterPage { dead_letters: vec![expected], next_cursor: None });
}

/// With each step written twice, and a letter of an earlier way that comes late.
pub async fn a_replayed_dead_letter_is_in_no_listing_until_it_fails_again(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let message = sample.message(vec![sample.address("ana"), sample.address("bob")]);
    let (first, other) = (
        Sample::dead_letter(&message, 0, Reason::AttemptsExhausted),
        Sample::dead_letter(&message, 1, Reason::AttemptsExhausted),
    );
    let mut second = Sample::dead_letter(&message, 0, Reason::RecipientGone);
    second.delivery.generation = Generation(1);
    let to_first = Message { to: vec![message.to[0].clone()], ..message.clone() };
    for (step, kept, replayed_as, listed) in [
        (of(&first), &first, 0, true),
        (replay(&to_first, 1), &first, 1, false),
        (of(&second), &second, 1, true),
        (of(&first), &second, 1, true),
        (replay(&to_first, 2), &second, 2, false),
        (replay(&to_first, 1), &second, 2, false),
    ] {
        write(&*status, vec![of(&other), step.clone()]).await;
        write(&*status, vec![step.clone()]).await;
        let row = stored(&*status, &first).await.expect("it was written");
        assert_eq!((&row.letter, row.replayed_as), (kept, Generation(replayed_as)), "after {step:?}");
        assert_eq!((row.is_replayed(), DeadLetterView::from(row).replayed), (!listed, !listed));
        let page = list(&*status, &sample, &DeadLetterFilter::default(), &sample.page(9)).await;
        assert_eq!(page.dead_letters.len(), 1 + usize::from(listed), "after {step:?}");
    }
    let early = sample.message(vec![sample.address("ana")]);
    let letter = Sample::dead_letter(&early, 0, Reason::AttemptsExhausted);
    write(&*status, vec![replay(&early, 1)]).await;
    assert_eq!(stored(&*status, &letter).await, None, "a replay alone is no dead letter");
    write(&*status, vec![of(&letter)]).await;
    assert!(stored(&*status, &letter).await.is_some_and(|row| row.is_replayed()));
}

pub async fn dead_letters_are_listed_by_channel_reason_and_time_newest_first(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let channels = [0, 1, 2].map(|_| Sample::new().channel);
    let mut letters: Vec<DeadLetter> = (0..200).map(|number| letter(&sample, &channels, number)).collect();
    write(&*status, letters.iter().map(of).collect()).await;
    letters.sort_by_key(|letter| std::cmp::Reverse((letter.failed_at, letter.delivery.delivery_id)));
    let mut filters = vec![DeadLetterFilter::default()];
    let of_channel = |channel: &ChannelName| DeadLetterFilter { channel: Some(channel.clone()), ..Default::default() };
    filters.extend(channels.iter().map(of_channel));
    for reason in Reason::ALL {
        filters.push(DeadLetterFilter { reason: Some(reason), ..Default::default() });
        filters.push(DeadLetterFilter { reason: Some(reason), ..of_channel(&channels[1]) });
    }
    let at = |ms: u64| Some(sample.now().saturating_add(Duration::from_millis(ms)));
    for (from, before) in [(at(20), None), (None, at(20)), (at(20), at(40)), (at(20), at(20)), (at(900), None)] {
        filters.push(DeadLetterFilter { from, before, ..Default::default() });
        filters.push(DeadLetterFilter { from, before, ..of_channel(&channels[2]) });
    }
    for filter in filters {
        let is_asked = |letter: &&DeadLetter| {
            filter.channel.as_ref().is_none_or(|channel| *channel == letter.delivery.to.channel)
                && filter.reason.is_none_or(|reason| reason == letter.reason)
                && filter.from.is_none_or(|from| letter.failed_at >= from)
                && filter.before.is_none_or(|before| letter.failed_at < before)
        };
        let expected: Vec<_> = letters.iter().filter(is_asked).map(|letter| letter.delivery.delivery_id).collect();
        let (mut found, mut page) = (Vec::new(), sample.page(7));
        loop {
            let DeadLetterPage { dead_letters, next_cursor } = list(&*status, &sample, &filter, &page).await;
            assert!(dead_letters.len() <= 7, "{filter:?}");
            found.extend(dead_letters.into_iter().map(|letter| letter.delivery_id));
            page.cursor = next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{filter:?}");
    }
    let foreign = list(&*status, &Sample::new(), &DeadLetterFilter::default(), &sample.page(1)).await;
    assert_eq!(foreign, DeadLetterPage { dead_letters: Vec::new(), next_cursor: None });
    a_cursor_of_another_listing_is_refused(&*status, &sample).await;
}

pub async fn a_replay_through_another_channel_marks_the_letter_that_it_goes_instead_of(status: Arc<dyn Status>) {
    let (sample, elsewhere) = (Sample::new(), Sample::new().channel);
    let message = sample.message(vec![sample.address("ana"), sample.address("bob")]);
    let [first, other] = [0, 1].map(|index| Sample::dead_letter(&message, index, Reason::RecipientGone));
    let to = Address { channel: elsewhere, target: "ana".into() };
    let replay = Message {
        to: vec![to.clone()],
        instead_of: Some(message.to[0].clone()),
        generation: Generation(1),
        ..message.clone()
    };
    for step in [of(&first), of(&other), Write::Message(Arc::new(replay.clone())), of(&first)] {
        write(&*status, vec![step]).await;
    }
    let listed = async || -> Vec<_> {
        let page = list(&*status, &sample, &DeadLetterFilter::default(), &sample.page(9)).await;
        page.dead_letters.into_iter().map(|letter| letter.delivery_id).collect()
    };
    assert_eq!(listed().await, [other.delivery.delivery_id]);
    assert_eq!(stored(&*status, &first).await.map(|row| (row.letter, row.replayed_as)), Some((first, Generation(1))));
    // It may fail there too: then there is a letter of the new address.
    let mut there = Sample::dead_letter(&replay, 0, Reason::MessageRejected);
    there.failed_at = there.failed_at.saturating_add(Duration::from_secs(1));
    write(&*status, vec![of(&there)]).await;
    assert_eq!(listed().await, [there.delivery.delivery_id, other.delivery.delivery_id]);
}

pub async fn a_discarded_dead_letter_is_gone_and_listed_no_more(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let message = sample.message(vec![sample.address("ana"), sample.address("bob")]);
    let [first, other] = [0, 1].map(|index| Sample::dead_letter(&message, index, Reason::RecipientGone));
    let id = first.delivery.delivery_id;
    write(&*status, vec![of(&first), of(&other)]).await;
    let discard = async |tenant: &TenantId, letters: &[(DeliveryId, Generation)]| status.discard(tenant, letters).await;
    let unknown = Sample::dead_letter(&sample.message(vec![sample.address("eve")]), 0, Reason::RecipientGone);
    assert_eq!(discard(&Sample::new().tenant, &[(id, Generation(9))]).await, Ok(0), "it is another tenant's");
    let both = [(unknown.delivery.delivery_id, Generation(0)), (id, Generation(0))];
    assert_eq!(discard(&sample.tenant, &both).await, Ok(1));
    assert_eq!(stored(&*status, &first).await, None);
    assert_eq!(discard(&sample.tenant, &both).await, Ok(0));
    let listed = async || -> Vec<_> {
        let page = list(&*status, &sample, &DeadLetterFilter::default(), &sample.page(9)).await;
        page.dead_letters.into_iter().map(|letter| (letter.delivery_id, letter.generation)).collect()
    };
    let left = (other.delivery.delivery_id, Generation(0));
    assert_eq!(listed().await, [left]);
    write(&*status, vec![of(&first), of(&first)]).await;
    assert_eq!(listed().await, [left], "also when it is read from the log once more");

    let mut second = first.clone();
    (second.delivery.generation, second.failed_at) = (Generation(1), sample.now());
    write(&*status, vec![of(&second)]).await;
    assert_eq!(listed().await, [(id, Generation(1)), left], "its next way has failed");
    assert_eq!(discard(&sample.tenant, &[(id, Generation(0))]).await, Ok(0), "that one was not meant");
    assert_eq!(discard(&sample.tenant, &[(id, Generation(1)), left]).await, Ok(2));
    assert_eq!(listed().await, []);
}

/// One in turn of the channels and of four reasons; three failed at each time.
fn letter(sample: &Sample, channels: &[ChannelName], number: usize) -> DeadLetter {
    let channel = channels[number % channels.len()].clone();
    let message = sample.message(vec![Address { channel, target: "ana".into() }]);
    let mut letter = Sample::dead_letter(&message, 0, Reason::ALL[number % 4]);
    letter.failed_at = sample.now().saturating_add(Duration::from_millis(number as u64 / 3));
    letter
}

async fn a_cursor_of_another_listing_is_refused(status: &dyn Status, sample: &Sample) {
    let filter = DeadLetterFilter::default();
    let cursor = list(status, sample, &filter, &sample.page(1)).await.next_cursor.expect("more are there");
    let page = PageRequest { limit: 1, cursor: Some(cursor) };
    let gone = DeadLetterFilter { reason: Some(Reason::RecipientGone), ..filter };
    assert_eq!(status.dead_letters(&sample.tenant, &gone, &page).await, Err(Error::BadCursor));
    let messages = status.messages(&sample.tenant, &Filter::default(), &page, sample.now()).await;
    assert_eq!(messages, Err(Error::BadCursor));
}
