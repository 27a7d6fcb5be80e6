//! Every rule of the engine, one test a sentence. Time and jitter are given; nothing here waits.

mod bench;

use std::time::Duration;

use bench::{Bench, ambiguous, aside, away, out, said, start_of, throttled, took, transient};
use chat4all_engine::{At, Command, Event, Load, Source, UNACKNOWLEDGED_MAX, retry};
use chat4all_proto::envelope::{OutcomeKind, Reason};
use chat4all_proto::outcome::{Outcome, Scope};
use chat4all_proto::progress::{FinishedSet, SPAN_MAX};
use chat4all_proto::{DeliveryStatus, Generation};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const NONE: [u64; 0] = [];

#[test]
fn messages_of_one_lane_go_one_after_the_other() {
    let mut bench = Bench::new();
    for offset in 0..3 {
        bench.arrive(offset, "a");
    }
    assert_eq!(bench.start(10), [0]);
    assert_eq!(bench.start(10), NONE, "its lane is busy");
    bench.finish(0, took());
    assert_eq!(bench.start(10), [1], "the next goes before the log has the first one's end");
    bench.finish(1, took());
    assert_eq!(bench.start(10), [2]);
}

#[test]
fn other_lanes_go_on_while_one_waits() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.arrive(1, "b");
    bench.arrive(2, "a");
    bench.arrive(3, "b");
    assert_eq!(bench.start(10), [0, 1]);
    bench.finish(0, transient());
    bench.finish(1, took());
    assert_eq!(bench.start(10), [3], "the retrying lane holds nobody else");
    assert_eq!(bench.engine.waiting(), 1);
}

#[test]
fn one_conversation_to_two_addresses_is_two_lanes() {
    let mut bench = Bench::new();
    bench.arrive_to(0, "a", "one");
    bench.arrive_to(1, "a", "two");
    assert_eq!(bench.start(10), [0, 1]);
}

#[test]
fn no_more_attempts_start_than_there_are_slots() {
    let mut bench = Bench::new();
    for offset in 0..5 {
        bench.arrive(offset, &format!("lane {offset}"));
    }
    assert_eq!(bench.start(2), [0, 1]);
    assert_eq!(bench.engine.ready(), 3);
    assert_eq!(bench.engine.in_flight(), 2);
    assert_eq!(bench.start(0), NONE);
    assert_eq!(bench.start(3), [2, 3, 4]);
}

#[test]
fn a_retry_waits_its_step_times_the_jitter_given_and_keeps_the_lane() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.arrive(1, "a");
    for (number, step_seconds) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        let attempt = bench.start_one();
        assert_eq!((attempt.at.offset, attempt.number), (0, number));
        let commands = bench.finish_with(0, transient(), 0.5);
        let event = bench::event_of(&commands);
        assert_eq!(event.status, DeliveryStatus::Retrying);
        assert_eq!(event.attempt.as_ref().map(|attempt| attempt.number), Some(number));
        let wait = SECOND * step_seconds / 2;
        assert_eq!(event.retry_at, Some(bench.wall().saturating_add(wait)));
        bench.advance(wait - MS);
        assert_eq!(bench.start(10), NONE, "not before its time");
        bench.advance(MS);
    }
    assert_eq!(bench.start_one().number, 5);
    let commands = bench.finish(0, transient());
    assert_eq!(bench::event_of(&commands).status, DeliveryStatus::Failed);
    assert_eq!(bench.start(10), NONE, "a crash now would have it tried again: nothing may overtake it");
    bench.feed(Event::Published { at: out(0) });
    assert_eq!(bench.start(10), NONE, "nor while only the dead letter is written");
    bench.commit();
    assert_eq!(bench.start(10), [1], "the lane goes on once no takeover would try it again");
}

#[test]
fn a_commit_lets_only_those_failed_lanes_go_on_that_it_covers() {
    let mut bench = Bench::new();
    for (offset, lane) in [(0, "slow"), (1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        bench.arrive(offset, lane);
    }
    bench.start(3);
    bench.finish(1, said(Outcome::RecipientGone, None));
    bench.finish(2, said(Outcome::RecipientGone, None));
    bench.feed(Event::Published { at: out(1) });
    bench.commit();
    assert_eq!(bench.start(10), [3], "1 is in the finished set, 2 is not on the log yet");
    bench.feed(Event::Published { at: out(2) });
    bench.commit();
    assert_eq!(bench.start(10), [4]);
}

#[test]
fn the_last_failure_makes_a_dead_letter_that_can_be_replayed() {
    let mut bench = Bench::new();
    bench.policy.retry = retry::Policy { attempts_max: 1, backoff: vec![SECOND] };
    bench.restart();
    bench.arrive(7, "a");
    bench.start_one();
    let commands = bench.finish(7, said(Outcome::TRANSIENT, Some("503")));
    let [Command::Publish { at, event, dead_letter: Some(letter), ends: true }] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert_eq!((*at, event.reason), (out(7), Some(Reason::AttemptsExhausted)));
    assert_eq!((letter.reason, letter.attempts, letter.code.as_deref()), (Reason::AttemptsExhausted, 1, Some("503")));
    assert_eq!((letter.source.topic.as_str(), letter.source.partition, letter.source.offset), ("hook-outbound", 3, 7));
    assert_eq!(letter.delivery.delivery_id, event.delivery_id);
}

#[test]
fn a_failure_may_bear_fewer_attempts_than_the_channel_allows_but_not_more() {
    for (attempts_max, expected) in [(1, 1), (2, 2), (9, 5)] {
        let mut bench = Bench::new();
        bench.arrive(0, "a");
        let mut attempts = 0;
        loop {
            bench.advance(9 * SECOND);
            bench.start_one();
            attempts += 1;
            let outcome = Outcome::Transient { after: None, attempts_max: Some(attempts_max) };
            if bench::letter_of(&bench.finish(0, said(outcome, None))).is_some() {
                break;
            }
        }
        assert_eq!(attempts, expected, "{attempts_max}");
    }
}

#[test]
fn an_end_says_whether_the_provider_may_report_more() {
    for has_receipts in [true, false] {
        for report in [took(), said(Outcome::RecipientGone, None)] {
            let mut bench = Bench::new();
            bench.policy.has_receipts = has_receipts;
            bench.restart();
            bench.arrive(0, "a");
            bench.start_one();
            assert_eq!(bench::event_of(&bench.finish(0, report)).awaits_receipt, has_receipts);
        }
    }
}

#[test]
fn a_recipient_that_is_gone_and_a_refused_message_fail_at_once() {
    for (outcome, reason) in
        [(Outcome::RecipientGone, Reason::RecipientGone), (Outcome::MessageRejected, Reason::MessageRejected)]
    {
        let mut bench = Bench::new();
        bench.arrive(0, "a");
        bench.start_one();
        let commands = bench.finish(0, said(outcome, None));
        let event = bench::event_of(&commands);
        assert_eq!((event.status, event.reason), (DeliveryStatus::Failed, Some(reason)));
        assert!(bench::letter_of(&commands).is_some());
    }
}

#[test]
fn throttled_and_account_problems_burn_nothing_however_often() {
    for outcome in [Outcome::Throttled { after: None, scope: Scope::Recipient }, Outcome::AccountProblem] {
        let mut bench = Bench::new();
        bench.arrive(0, "a");
        for call in 1..=50 {
            assert_eq!(bench.start_one().number, call);
            let commands = bench.finish(0, said(outcome.clone(), None));
            assert_eq!(bench::event_of(&commands).status, DeliveryStatus::Retrying);
            bench.advance(retry::OWN_WAIT_MAX);
        }
        for _ in 1..5 {
            bench.start_one();
            assert_eq!(bench::event_of(&bench.finish(0, transient())).status, DeliveryStatus::Retrying);
            bench.advance(30 * SECOND);
        }
        bench.start_one();
        assert_eq!(
            bench::event_of(&bench.finish(0, transient())).status,
            DeliveryStatus::Failed,
            "the fifth that counts"
        );
    }
}

#[test]
fn a_throttled_lane_waits_as_long_as_asked_up_to_an_hour() {
    for (asked, waits) in [(3 * SECOND, 3 * SECOND), (7_200 * SECOND, 3_600 * SECOND)] {
        let mut bench = Bench::new();
        bench.arrive(0, "a");
        bench.start_one();
        bench.finish_with(0, throttled(Some(asked)), 0.0);
        bench.advance(waits - MS);
        assert_eq!(bench.start(1), NONE);
        bench.advance(MS);
        assert_eq!(bench.start(1), [0]);
    }
}

#[test]
fn expiry_is_checked_before_each_attempt() {
    let mut bench = Bench::new();
    bench.lifetime = 10 * SECOND;
    bench.arrive(0, "a");
    bench.arrive(1, "a");
    let mut commands = bench.advance(10 * SECOND);
    commands.extend(bench.slots(5));
    assert_eq!(start_of(&commands), NONE, "neither is tried");
    let ends: Vec<_> = commands.iter().filter_map(bench::end_of).collect();
    assert_eq!(ends, [(0, DeliveryStatus::Expired), (1, DeliveryStatus::Expired)]);
    assert!(bench::letter_of(&commands).is_none(), "expired is no dead letter");
}

#[test]
fn an_expired_message_takes_no_slot_from_another() {
    let mut bench = Bench::new();
    bench.lifetime = SECOND;
    bench.arrive(0, "a");
    bench.lifetime = 60 * SECOND;
    bench.arrive(1, "b");
    bench.advance(2 * SECOND);
    assert_eq!(bench.start(1), [1]);
}

#[test]
fn a_retry_that_would_come_too_late_ends_at_the_expiry() {
    let mut bench = Bench::new();
    bench.lifetime = 5 * SECOND;
    bench.arrive(0, "a");
    bench.start_one();
    bench.finish(0, throttled(Some(600 * SECOND)));
    assert_eq!(bench.engine.next_wake(), Some(bench.start_of_time() + 500 * MS), "to look for slow attempts");
    bench.advance(SECOND);
    bench.advance(3_500 * MS);
    assert_eq!(bench.engine.next_wake(), Some(bench.start_of_time() + 5 * SECOND));
    let mut commands = bench.advance(500 * MS);
    commands.extend(bench.slots(1));
    assert_eq!(commands.iter().filter_map(bench::end_of).collect::<Vec<_>>(), [(0, DeliveryStatus::Expired)]);
}

#[test]
fn a_lost_answer_is_sent_again_only_where_the_policy_says_so() {
    let mut bench = Bench::new();
    bench.policy.resend_ambiguous = false;
    bench.restart();
    bench.arrive(0, "a");
    bench.start_one();
    let commands = bench.finish(0, ambiguous());
    assert_eq!(commands.iter().filter_map(bench::end_of).collect::<Vec<_>>(), [(0, DeliveryStatus::Unknown)]);
    assert!(bench::letter_of(&commands).is_none());

    let mut bench = Bench::new();
    bench.arrive(0, "a");
    for number in 1..=5 {
        assert_eq!(bench.start_one().number, number);
        bench.finish(0, ambiguous());
        bench.advance(8 * SECOND);
    }
    assert_eq!(bench.start(1), NONE, "a lost answer counts as an attempt");
}

#[test]
fn what_the_provider_took_ends_as_the_channel_says() {
    for status in [DeliveryStatus::Sent, DeliveryStatus::Delivered] {
        let mut bench = Bench::new();
        bench.policy.accepted = status;
        bench.restart();
        bench.arrive(0, "a");
        bench.start_one();
        let commands = bench.finish(0, said(Outcome::Accepted { provider_id: Some("p1".into()) }, Some("200")));
        let event = bench::event_of(&commands);
        assert_eq!((event.status, event.provider_id.as_deref()), (status, Some("p1")));
        let attempt = event.attempt.as_ref().expect("an end names its attempt");
        assert_eq!((attempt.outcome, attempt.code.as_deref()), (OutcomeKind::Accepted, Some("200")));
    }
}

#[test]
fn an_offset_is_finished_only_when_the_log_has_its_end() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.start_one();
    let commands = bench.finish(0, took());
    assert!(!commands.iter().any(|command| matches!(command, Command::Finish { .. })));
    assert_eq!(bench.engine.commit()[0], (0, String::new()));
    assert!(!bench.engine.is_quiet());
    let commands = bench.feed(Event::Published { at: out(0) });
    assert!(matches!(commands.as_slice(), [Command::Finish { at: At { offset: 0, .. } }]));
    assert_eq!(bench.engine.commit()[0], (1, String::new()));
    assert!(bench.engine.is_quiet());
}

/// Whatever the log has not heard of would be sent again if the log were gone now.
#[test]
fn nothing_more_starts_while_the_log_acknowledges_too_little() {
    let (mut bench, most) = (Bench::new(), UNACKNOWLEDGED_MAX as u64);
    for offset in 0..=most {
        bench.arrive(offset, &format!("lane {offset}"));
    }
    for offset in bench.start(UNACKNOWLEDGED_MAX) {
        bench.finish(offset, took());
    }
    assert_eq!(bench.start(10), NONE);
    bench.feed(Event::Published { at: out(0) });
    assert_eq!(bench.start(10), [most]);
}

#[test]
fn the_commit_names_what_is_finished_above_the_watermark() {
    let mut bench = Bench::new();
    for (offset, lane) in [(4, "a"), (6, "b"), (9, "c")] {
        bench.arrive(offset, lane);
    }
    bench.start(3);
    bench.deliver(6);
    let [(watermark, metadata), _] = bench.engine.commit();
    let finished = FinishedSet::decode(&metadata, watermark).unwrap();
    assert_eq!((watermark, finished), (4, FinishedSet::from_offsets([6])));
    bench.deliver(4);
    assert_eq!(bench.engine.commit()[0].0, 9);
}

#[test]
fn a_takeover_does_again_exactly_what_was_not_finished() {
    let mut bench = Bench::new();
    for (offset, lane) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
        bench.arrive(offset, lane);
    }
    bench.start(10);
    bench.deliver(1);
    bench.restart();
    for (offset, lane, finished) in [(0, "a", &[][..]), (1, "b", &[1]), (2, "a", &[]), (3, "c", &[])] {
        assert_eq!(bench::finishes_of(&bench.arrive(offset, lane)), finished);
    }
    assert_eq!(bench.start(10), [0, 3]);
    assert_eq!(bench.start_number(0), None, "2 waits behind 0");
}

#[test]
fn an_exact_repeat_is_dropped_and_a_replay_is_not() {
    let mut bench = Bench::new();
    bench.arrive_as(0, "a", 100, Generation(0), 1);
    let commands = bench.arrive_as(1, "a", 100, Generation(0), 1);
    assert_eq!(bench::finishes_of(&commands), [1]);
    assert_eq!(bench.engine.suppressed(), 1);
    bench.arrive_as(2, "a", 100, Generation(1), 1);
    assert_eq!(bench.start(10), [0]);
    bench.deliver(0);
    assert_eq!(bench.start(10), [2]);
}

#[test]
fn a_repeat_of_what_a_former_holder_finished_is_dropped_too() {
    let mut bench = Bench::new();
    bench.resume(50, [52], [(100, None)]);
    assert_eq!(bench::finishes_of(&bench.arrive_as(50, "a", 100, Generation(0), 1)), [50], "below the watermark");
    assert_eq!(bench::finishes_of(&bench.arrive_as(52, "a", 101, Generation(0), 1)), [52], "in the finished set");
    assert_eq!(bench::finishes_of(&bench.arrive_as(53, "a", 101, Generation(0), 2)), [53], "its repeat");
    assert_eq!(bench.start(10), NONE);
    assert_eq!(bench.engine.commit()[0].0, 54);
}

#[test]
fn records_of_a_router_that_lost_its_partition_are_dropped() {
    let mut bench = Bench::new();
    bench.arrive_as(0, "a", 1, Generation(0), 5);
    bench.arrive_as(1, "b", 2, Generation(0), 6);
    let outdated = bench.arrive_as(2, "c", 3, Generation(0), 5);
    assert_eq!(bench::finishes_of(&outdated), [2]);
    bench.arrive_as(3, "c", 3, Generation(0), 6);
    assert_eq!(bench.start(10), [0, 1, 3], "what its successor routes again is no repeat");
}

#[test]
fn a_router_that_lost_its_partition_is_known_after_a_takeover_too() {
    let mut bench = Bench::new();
    bench.resume(50, [], [(1, Some(5)), (2, Some(6)), (3, Some(5))]);
    assert_eq!(bench::finishes_of(&bench.arrive_as(50, "d", 4, Generation(0), 5)), [50], "it is as late as 3 was");
    assert_eq!(
        bench::finishes_of(&bench.arrive_as(51, "a", 1, Generation(0), 6)),
        [51],
        "a repeat of another router's"
    );
    bench.arrive_as(52, "c", 3, Generation(0), 6);
    assert_eq!(bench.start(10), [52], "3 was dropped: what its successor routes again is no repeat");
}

#[test]
fn a_record_that_cannot_be_read_is_passed_over() {
    let mut bench = Bench::new();
    let commands = bench.arrive_unreadable(0);
    assert_eq!(bench::finishes_of(&commands), [0]);
    assert_eq!(bench.engine.commit()[0].0, 1);
}

#[test]
fn an_offset_that_came_before_is_not_worked_on_twice() {
    let mut bench = Bench::new();
    bench.arrive(5, "a");
    let commands = bench.arrive(5, "a");
    assert_eq!(bench::finishes_of(&commands), [5], "the second copy takes no room");
    assert_eq!(bench.start(10), [5]);
    assert_eq!(bench.engine.commit()[0].0, 5, "and the first is still unfinished");
}

#[test]
fn the_partition_is_held_before_the_span_is_used_up_and_flows_again() {
    let mut bench = Bench::new();
    let mut held_at = None;
    for offset in 0..SPAN_MAX {
        let commands = bench.arrive(offset, &format!("lane {offset}"));
        if commands.iter().any(|command| matches!(command, Command::Hold(Source::Outbound, true))) {
            held_at = Some(offset);
            break;
        }
    }
    let held_at = held_at.expect("it is held");
    assert!((SPAN_MAX / 2..SPAN_MAX - 1_000).contains(&held_at), "{held_at}: room for what is on its way");
    bench.start(1);
    let commands = bench.deliver(0);
    assert!(commands.iter().any(|command| matches!(command, Command::Hold(Source::Outbound, false))), "{commands:?}");
}

#[test]
fn after_drain_nothing_starts_and_what_is_under_way_ends() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.arrive(1, "a");
    bench.arrive(2, "b");
    bench.start(2);
    bench.feed(Event::Drain);
    assert!(!bench.engine.is_quiet());
    bench.arrive(3, "c");
    assert_eq!(bench.start(10), NONE);
    bench.deliver(0);
    bench.finish(2, transient());
    assert!(bench.engine.is_quiet());
    bench.advance(60 * SECOND);
    assert_eq!(bench.start(10), NONE, "no retry either");
    assert_eq!(bench.engine.next_wake(), None);
    assert_eq!(bench.engine.commit()[0].0, 1);
}

#[test]
fn an_attempt_shows_as_sending_once_it_takes_half_a_second() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.arrive(1, "b");
    bench.start(2);
    bench.deliver(1);
    bench.advance(499 * MS);
    assert!(bench.feed(Event::Tick).is_empty());
    assert_eq!(bench.engine.next_wake(), Some(bench.start_of_time() + 500 * MS));
    let commands = bench.advance(MS);
    let event = bench::event_of(&commands);
    assert_eq!((event.status, event.attempt.is_none()), (DeliveryStatus::Sending, true));
    assert!(bench.advance(SECOND).is_empty(), "once an attempt, and not for the one that ended");
}

#[test]
fn a_second_attempt_is_not_called_slow_because_of_the_first() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.start_one();
    bench.advance(100 * MS);
    bench.finish_with(0, transient(), 0.0);
    bench.feed(Event::Tick);
    assert_eq!(bench.start(1), [0]);
    assert!(bench.advance(450 * MS).is_empty());
    assert_eq!(bench::event_of(&bench.advance(50 * MS)).status, DeliveryStatus::Sending);
}

#[test]
fn an_abandoned_attempt_is_made_again_uncounted_and_first_in_its_lane() {
    let mut bench = Bench::new();
    bench.policy.retry.attempts_max = 1;
    bench.restart();
    bench.arrive(0, "a");
    bench.arrive(1, "a");
    for call in 1..=20 {
        let attempt = bench.start_one();
        assert_eq!((attempt.at.offset, attempt.number), (0, call));
        assert!(bench.feed(Event::Abandoned { at: out(0) }).is_empty());
        assert_eq!(bench.engine.in_flight(), 0);
        bench.advance(SECOND);
    }
    bench.start_one();
    bench.deliver(0);
    assert_eq!(bench.start(1), [1]);
}

#[test]
fn an_answer_nobody_waits_for_changes_nothing() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.arrive(1, "b");
    assert!(bench.finish(0, took()).is_empty(), "not started");
    assert!(bench.feed(Event::Abandoned { at: out(7) }).is_empty(), "not known");
    bench.start(2);
    bench.deliver(0);
    assert!(bench.finish(0, transient()).is_empty(), "ended");
    assert_eq!(bench.engine.in_flight(), 1);
}

#[test]
fn an_outage_burns_nothing_unless_others_succeed() {
    let mut alone = Bench::new();
    alone.arrive(0, "a");
    for _ in 0..50 {
        alone.advance(8 * SECOND);
        alone.start_one();
        assert_eq!(bench::event_of(&alone.finish(0, away())).status, DeliveryStatus::Retrying);
    }

    let mut beside = Bench::new();
    beside.arrive(0, "a");
    for round in 1..=5 {
        beside.arrive(round, "b");
        beside.advance(8 * SECOND);
        beside.start(2);
        beside.finish(round, took());
        beside.advance(MS);
        let status = bench::event_of(&beside.finish(0, away())).status;
        let expected = if round < 5 { DeliveryStatus::Retrying } else { DeliveryStatus::Failed };
        assert_eq!(status, expected, "round {round}: the provider is there for others");
    }
}

#[test]
fn a_channel_that_is_paused_holds_its_partition_and_what_it_has() {
    let mut bench = Bench::new();
    bench.arrive(0, "a");
    bench.gate.set_paused(true);
    assert_eq!(bench.start(10), NONE);
    let commands = bench.feed(Event::Tick);
    assert!(commands.iter().all(|command| !matches!(command, Command::Hold(_, false))), "{commands:?}");
    bench.gate.set_paused(false);
    let commands = bench.advance(SECOND);
    assert_eq!(commands.iter().filter(|command| matches!(command, Command::Hold(_, false))).count(), 2);
    assert_eq!(bench.start(10), [0]);
}

#[test]
fn what_is_cancelled_ends_wherever_it_stands_and_the_others_go_on() {
    let mut bench = Bench::new();
    for offset in 0..3 {
        bench.arrive(offset, "a");
    }
    bench.start_one();
    bench.cancel([0, 1]);
    let commands = bench.advance(SECOND);
    let ends: Vec<_> = commands.iter().filter_map(bench::end_of).collect();
    assert_eq!(ends, [(1, DeliveryStatus::Cancelled)], "what is in flight is not known yet");
    bench.finish(0, transient());
    let mut commands = bench.advance(SECOND);
    commands.extend(bench.slots(10));
    assert_eq!(commands.iter().filter_map(bench::end_of).collect::<Vec<_>>(), [(0, DeliveryStatus::Cancelled)]);
    assert_eq!(start_of(&commands), [2]);
}

/// Lanes a to d, of which a has two messages and cannot move.
fn crowded() -> Bench {
    let mut bench = Bench::new();
    bench.policy.crowded = Load { records: 5, bytes: usize::MAX };
    bench.policy.retry.backoff = vec![600 * SECOND];
    bench.restart();
    bench.arrive(0, "a");
    bench.start_one();
    bench.finish(0, transient());
    bench.arrive(1, "a");
    for (offset, lane) in [(2, "b"), (3, "c")] {
        bench.arrive(offset, lane);
    }
    bench
}

#[test]
fn a_lane_that_cannot_move_is_parked_whole_when_it_is_in_the_way() {
    let mut bench = crowded();
    let parked = bench::parked_of(&bench.arrive(4, "d"));
    let places: Vec<_> = parked.iter().map(|(at, copy)| (*at, copy.position, copy.attempts)).collect();
    assert_eq!(places, [(out(0), 0, 1), (out(1), 1, 0)], "first to last, with what was tried");
    assert_eq!(bench.start(10), [2, 3, 4], "the others stay");
    assert_eq!(bench.engine.commit()[0].0, 0, "its records are not finished yet");
    let next = bench::parked_of(&bench.arrive(5, "a"));
    assert_eq!(next.len(), 1, "what comes for the lane follows it");
    for offset in [0, 1, 5] {
        bench.feed(Event::Parked { at: out(offset) });
    }
    assert_eq!(bench.engine.commit()[0].0, 2, "the copies are on the log: the watermark is free");
}

#[test]
fn a_parked_lane_comes_back_in_order_and_then_goes_the_straight_way() {
    let mut bench = crowded();
    bench.arrive(4, "d");
    bench.start(10);
    for offset in [0, 1] {
        bench.feed(Event::Parked { at: out(offset) });
    }
    assert_eq!(bench::parked_of(&bench.come_back(0, "a", 1)).len(), 1, "before its turn: to the end");
    assert!(bench::parked_of(&bench.come_back(1, "a", 0)).is_empty());
    assert_eq!(bench.start_at(10), [aside(1)]);
    assert!(bench::parked_of(&bench.come_back(2, "a", 1)).is_empty());
    assert_eq!(bench::finishes_of(&bench.come_back(3, "a", 1)), [3], "a second copy");
    assert!(bench::parked_of(&bench.arrive(6, "a")).is_empty(), "all of the lane is here: no detour any more");
    bench.finish_at(aside(1), took());
    assert_eq!(bench.start_at(10), [aside(2)]);
    bench.finish_at(aside(2), took());
    assert_eq!(bench.start_at(10), [out(6)]);
}

#[test]
fn a_takeover_knows_what_is_parked_and_sends_nothing_past_it() {
    let mut bench = Bench::new();
    bench.rebuild("a", 7);
    assert_eq!(bench::finishes_of(&bench.arrive(7, "a")), [7], "parked, and the commit did not know it yet");
    assert_eq!(bench::parked_of(&bench.arrive(8, "a")).len(), 1, "behind it");
    bench.arrive(9, "b");
    assert_eq!(bench.start(10), [9]);
    bench.come_back(0, "a", 7);
    assert_eq!(bench.start_at(10), [aside(0)]);
}

#[test]
fn ten_minutes_of_outage_cost_a_waiting_message_nothing_and_the_provider_a_few_calls() {
    for waiting in [1, 40] {
        let mut bench = Bench::new();
        bench.gate = bench::gate_with_breaker();
        for offset in 0..waiting {
            bench.arrive(offset, &format!("lane {offset}"));
        }
        let (mut calls, mut back_after) = (0, None);
        for second in 0..660 {
            bench.advance(SECOND);
            for offset in bench.start(64) {
                if second < 600 {
                    calls += 1;
                    assert_eq!(bench::event_of(&bench.finish(offset, away())).status, DeliveryStatus::Retrying);
                } else {
                    back_after.get_or_insert(second - 600);
                    bench.deliver(offset);
                }
            }
        }
        let most = waiting + 3 * (600 / 24 + 2);
        assert!((10..=most).contains(&calls), "{calls} calls, of at most {most}");
        assert!(back_after.is_some_and(|seconds| seconds <= 31), "first call {back_after:?} s after the return");
        assert_eq!(bench.engine.commit()[0].0, waiting, "all of them arrived");
    }
}
