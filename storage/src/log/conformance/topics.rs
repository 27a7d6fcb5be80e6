//! Making topics, latest values, retention.

use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::Topic;
use tokio::time::timeout;

use super::appends::append;
use super::reader::Reader;
use super::{PARTITIONS, PATIENCE, Store, open, records, specs};
use crate::log::{AppendError, Error, TopicKind, TopicSpec};

const ALL: usize = PARTITIONS as usize;

pub async fn topics_are_made_once(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    append(&one, records(10)).await;
    let shorter = specs(Duration::from_secs(3_600));
    assert_eq!(two.ensure_topics(&shorter).await, Ok(()));
    let more = TopicSpec { topic: Topic::Outbound("webhook".parse().expect("a channel name")), ..shorter[0].clone() };
    assert_eq!(two.ensure_topics(&[shorter[0].clone(), more.clone()]).await, Ok(()));
    assert_eq!(one.ends(&more.topic).await.map(|ends| ends.len()), Ok(ALL), "made by another handle");
    let mut reader = Reader::join(&one, "readers", &[Topic::Messages]).await;
    reader.until_records(10).await;
}

pub async fn a_topic_of_another_shape_is_refused(store: &impl Store) {
    let log = open(store).await;
    let stream = specs(Duration::from_secs(3_600)).remove(0);
    let missing = TopicSpec { topic: Topic::DeadLetters, ..stream.clone() };
    let wrong =
        [TopicSpec { partitions: PARTITIONS + 1, ..stream.clone() }, TopicSpec { kind: TopicKind::Latest, ..stream }];
    for wrong in wrong {
        match log.ensure_topics(&[missing.clone(), wrong]).await {
            Err(Error::Refused(reason)) => assert!(reason.contains("`messages`"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

pub async fn latest_values_reach_every_handle(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let put = async |key: &str, value: Option<&'static str>| {
        one.put_latest(&Topic::Control, key, value.map(Bytes::from)).await.unwrap_or_else(|error| panic!("{error}"));
    };
    put("a", Some("1")).await;
    let mut followed = two.follow_latest(&Topic::Control).await.expect("the log is there");
    assert_eq!(followed.borrow_and_update().get("a").map(|value| &value[..]), Some(&b"1"[..]), "complete at first");
    let mut here = one.follow_latest(&Topic::Control).await.expect("the log is there");
    put("b", Some("2")).await;
    put("b", Some("3")).await;
    put("a", None).await;
    for values in [&mut followed, &mut here] {
        let changed = values.wait_for(|values| values.len() == 1 && values.get("b").is_some_and(|value| value == "3"));
        timeout(PATIENCE, changed).await.expect("the change arrives").expect("it is followed");
    }
    let refused = one.put_latest(&Topic::Messages, "a", None).await;
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
}

pub async fn retention_never_overtakes_a_group(store: &impl Store) {
    let log = open(store).await;
    // Where age alone decides, what is young is all that may be counted on.
    let awaits_groups = log.guarantees().retention_awaits_groups;
    let retention = if awaits_groups { Duration::from_millis(1) } else { Duration::from_secs(3_600) };
    log.ensure_topics(&specs(retention)).await.expect("retention may change");
    append(&log, records(300)).await;
    // It joined and never committed.
    let mut slow = Reader::holding(&log, "slow", ALL).await;
    slow.until_records(300).await;
    slow.consumer.leave().await;
    let mut quick = Reader::holding(&log, "quick", ALL).await;
    quick.until_records(300).await;
    quick.commit_all().await;
    tokio::time::sleep(Duration::from_millis(10)).await; // past the retention
    assert_eq!(log.enforce_retention().await, Ok(()));
    let mut slow = Reader::join(&log, "slow", &[Topic::Messages]).await;
    slow.until_records(300).await;
    assert!(slow.sorted_numbers().into_iter().eq(0..300));
    slow.commit_all().await;
    assert_eq!(log.enforce_retention().await, Ok(()));
    append(&log, records(20)).await;
    slow.until_records(320).await;
    quick.until_records(320).await;
}
