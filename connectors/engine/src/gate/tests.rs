//! What holds a call back and for how long, a sentence each. Time is given; nothing here waits.

use chat4all_proto::outcome::Outcome;
use uuid::Uuid;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    gate: Gate,
    now: Instant,
}

fn case(limits: Limits) -> Case {
    let policy = Policy { breaker: breaker::Policy::default(), limits, slots: 64, partitions: 6 };
    let mut gate = Gate::new(policy);
    (0..6).for_each(|_| gate.join());
    Case { gate, now: Instant::now() }
}

impl Case {
    fn ask(&mut self, to: &str) -> Result<Pass, Wait> {
        self.ask_as(None, to, false)
    }

    fn ask_as(&mut self, host: Option<&str>, to: &str, is_retry: bool) -> Result<Pass, Wait> {
        let (host, tenant) = (host.map(Arc::from), TenantId::default());
        let call = Call { destination: host.as_ref(), recipient: to, tenant: &tenant, is_retry };
        self.gate.ask(call, &mut Cleared::default(), self.now)
    }

    fn settle(&mut self, pass: Pass, to: &str, report: &Report) {
        let answered = Answered { report, took: SECOND / 10, jitter: Unit::new(0.0), failed_before: false };
        self.gate.settle(pass, to, answered, self.now);
    }

    /// Calls that pass in a row before one has to wait.
    fn burst(&mut self) -> usize {
        let mut count = 0;
        while let Ok(pass) = self.ask("ana") {
            self.settle(pass, "ana", &said(Outcome::Accepted { provider_id: None }));
            count += 1;
            assert!(count < 10_000, "no end");
        }
        count
    }

    /// How many pass in so many seconds, asked each millisecond.
    fn passing(&mut self, seconds: u64) -> usize {
        let mut count = 0;
        for _ in 0..seconds * 1_000 {
            self.now += SECOND / 1_000;
            count += self.burst();
        }
        count
    }
}

fn said(outcome: Outcome) -> Report {
    Report::new(outcome, None, None)
}

fn away() -> Report {
    Report { outage_like: true, ..said(Outcome::TRANSIENT) }
}

fn throttled(scope: Scope, after: u64) -> Report {
    said(Outcome::Throttled { after: (after > 0).then(|| SECOND * after as u32), scope })
}

fn per_second(count: f64) -> Limits {
    Limits { channel: Some(Rate::per_second(count)), ..Limits::default() }
}

fn on(wait: Result<Pass, Wait>) -> Option<On> {
    wait.err().map(|wait| wait.on)
}

#[test]
fn the_channels_rate_holds_and_is_shared_by_the_partitions_held() {
    let mut case = case(per_second(100.0));
    assert!((1_000..=1_010).contains(&case.passing(10)), "all of them are here");
    (0..3).for_each(|_| case.gate.leave());
    assert!((500..=510).contains(&case.passing(10)), "half of them are elsewhere, with their half");
}

#[test]
fn an_outage_shuts_the_channel_and_its_return_is_tried_with_few() {
    let mut case = case(Limits::default());
    for _ in 0..3 {
        let pass = case.ask("ana").unwrap();
        case.settle(pass, "ana", &away());
    }
    assert_eq!(on(case.ask("ana")), Some(On::Channel));
    assert!(case.gate.is_shut(case.now));
    case.now += 10 * SECOND;
    assert!(!case.gate.is_shut(case.now), "half-open: somebody has to try");
    let probes: Vec<Pass> = std::iter::from_fn(|| case.ask("ana").ok()).collect();
    assert_eq!(probes.len(), 3);
    for pass in probes {
        case.settle(pass, "ana", &said(Outcome::Accepted { provider_id: None }));
    }
    let states: Vec<State> = case.gate.take_changes().into_iter().map(|change| change.state).collect();
    assert_eq!(states, [State::Open, State::HalfOpen, State::Closed]);
    assert_eq!(case.gate.take_changes(), []);
}

#[test]
fn a_dead_destination_shuts_only_itself() {
    let mut case = case(Limits::default());
    for _ in 0..3 {
        let pass = case.ask_as(Some("dead.test"), "x", false).unwrap();
        case.settle(pass, "x", &away());
    }
    assert_eq!(on(case.ask_as(Some("dead.test"), "x", false)), Some(On::Destination));
    assert_eq!(on(case.ask_as(Some("alive.test"), "y", false)), None);
    assert!(!case.gate.is_shut(case.now));
    assert_eq!(case.gate.destinations_away(), 1);
}

#[test]
fn one_message_with_an_error_each_time_does_not_shut_a_channel() {
    let mut case = case(Limits::default());
    for call in 0..50 {
        let pass = case.ask("ana").unwrap();
        let answered = Answered {
            report: &said(Outcome::TRANSIENT),
            took: SECOND,
            jitter: Unit::new(0.0),
            failed_before: call > 0,
        };
        case.gate.settle(pass, "ana", answered, case.now);
    }
    assert!(!case.gate.is_shut(case.now));
}

#[test]
fn a_problem_with_our_account_shuts_the_channel_at_once() {
    let mut case = case(Limits::default());
    let pass = case.ask("ana").unwrap();
    case.settle(pass, "ana", &said(Outcome::AccountProblem));
    assert!(case.gate.is_shut(case.now));
}

#[test]
fn what_a_provider_asks_for_holds_all_or_only_the_recipient() {
    let mut whole = case(Limits::default());
    let pass = whole.ask("ana").unwrap();
    whole.settle(pass, "ana", &throttled(Scope::Account, 7));
    assert_eq!(on(whole.ask("bob")), Some(On::Channel));
    whole.now += 7 * SECOND;
    assert_eq!(on(whole.ask("bob")), None);

    let mut one = case(Limits::default());
    let pass = one.ask("ana").unwrap();
    one.settle(pass, "ana", &throttled(Scope::Recipient, 7));
    assert_eq!(on(one.ask("ana")), Some(On::Recipient));
    assert_eq!(on(one.ask("bob")), None);

    let mut unsaid = case(Limits::default());
    let pass = unsaid.ask("ana").unwrap();
    unsaid.settle(pass, "ana", &throttled(Scope::Unsaid, 7));
    let pass = unsaid.ask("bob").expect("one alone is held alone");
    unsaid.settle(pass, "bob", &throttled(Scope::Unsaid, 7));
    assert_eq!(on(unsaid.ask("eve")), Some(On::Channel), "a second one within the wait means all");
}

#[test]
fn throttling_halves_the_rate_at_once_and_gives_it_back_slowly() {
    let mut case = case(per_second(100.0));
    case.passing(5);
    case.now += SECOND / 10;
    let pass = case.ask("ana").unwrap();
    case.settle(pass, "ana", &throttled(Scope::Account, 0));
    let seconds: Vec<usize> = (0..12).map(|_| case.passing(1)).collect();
    assert!((45..=56).contains(&seconds[0]), "{seconds:?}");
    assert!(seconds.windows(2).all(|pair| pair[1] + 3 >= pair[0]), "{seconds:?}: it only rises");
    assert!((95..=105).contains(&seconds[11]), "{seconds:?}: up to what is configured");
}

#[test]
fn a_recipient_has_its_own_rate() {
    let rate = Rate { every: 6 * SECOND, burst: std::num::NonZeroU32::new(2).expect("not zero") };
    let mut case = case(Limits { recipient: Some(rate), ..Limits::default() });
    assert_eq!(case.burst(), 2);
    assert_eq!(on(case.ask("ana")), Some(On::Recipient));
    assert_eq!(on(case.ask("bob")), None);
    case.now += 6 * SECOND;
    assert_eq!(case.burst(), 1);
}

#[test]
fn what_was_granted_once_is_not_asked_for_again() {
    let rate = Rate { every: 6 * SECOND, burst: std::num::NonZeroU32::MIN };
    let mut case = case(Limits { recipient: Some(rate), channel: Some(rate), ..Limits::default() });
    case.burst();
    case.now += 7 * SECOND;
    let (tenant, mut cleared) = (TenantId::default(), Cleared::default());
    let call = Call { destination: None, recipient: "bob", tenant: &tenant, is_retry: false };
    let first = case.ask("ana").expect("the channel's next");
    assert_eq!(on(case.gate.ask(call, &mut cleared, case.now)), Some(On::Channel));
    assert!(cleared.has(On::Recipient));
    case.now += 6 * SECOND;
    assert_eq!(on(case.gate.ask(call, &mut cleared, case.now)), None);
    case.gate.abandon(first);
}

#[test]
fn retries_are_a_fifth_of_the_first_attempts_and_ten_a_second() {
    let mut case = case(Limits::default());
    let mut retries = 0;
    for _ in 0..10_000 {
        case.now += SECOND / 1_000;
        let pass = case.ask("ana").expect("a first attempt");
        case.gate.abandon(pass);
        while let Ok(pass) = case.ask_as(None, "ana", true) {
            case.gate.abandon(pass);
            retries += 1;
        }
    }
    let most = 20 + 10 * 10 + 10_000 / 5;
    assert!((most - 3..=most + 1).contains(&retries), "{retries} of {most}");
    assert_eq!(on(case.ask_as(None, "ana", true)), Some(On::Retries));
}

#[test]
fn paused_means_nobody_and_cancelled_means_that_message() {
    let mut case = case(Limits::default());
    let [one, other] = [1, 2].map(|n| MessageId::from_uuid(Uuid::from_u128(n)));
    case.gate.set_paused(true);
    assert_eq!((case.gate.room(case.now), on(case.ask("ana"))), (0, Some(On::Channel)));
    assert!(case.gate.is_shut(case.now));
    case.gate.set_paused(false);
    case.gate.set_cancelled(Arc::new(HashSet::from([one])));
    assert_eq!(on(case.ask("ana")), None);
    assert_eq!([one, other].map(|id| case.gate.is_cancelled(&id)), [true, false]);
}

#[test]
fn destinations_that_nobody_calls_are_forgotten_but_not_while_they_are_away() {
    let mut case = case(Limits::default());
    for host in 0..1_000 {
        let host = format!("host-{host}.test");
        let pass = case.ask_as(Some(&host), "x", false).unwrap();
        case.settle(pass, "x", &said(Outcome::Accepted { provider_id: None }));
    }
    for _ in 0..3 {
        let pass = case.ask_as(Some("dead.test"), "x", false).unwrap();
        case.settle(pass, "x", &away());
    }
    case.now += 121 * SECOND;
    let pass = case.ask_as(Some("new.test"), "x", false).unwrap();
    case.gate.abandon(pass);
    let mut left: Vec<&str> = case.gate.destinations.keys().map(|host| &**host).collect();
    left.sort_unstable();
    assert_eq!(left, ["dead.test", "new.test"]);
}
