//! A provider is away: nothing fails, nobody else notices, and once it is back everything goes on by itself.

use std::time::{Duration, Instant, SystemTime};

use crate::harness::arrivals::{
    at_rest, latencies, longest_gap, metric, must_be_whole, none_failed, percentiles, telegram, telegram_answers,
    telegram_takes,
};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES, config};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{long, run, turn, until, until_async};

const STATE: &str = "chat4all_circuit_breaker_state";
const ATTEMPTS: &str = "chat4all_delivery_attempts_total";
/// On top of what is promised: two cores carry everything.
const SLACK: Duration = Duration::from_secs(3);

fn plan(name: &'static str, target: String, seconds: f64) -> Plan {
    Plan { name, conversations: 20, messages: (seconds * 50.0) as usize, per_second: 50.0, target, insists: true }
}

async fn breaker_is(api: &Api, channel: &str, state: f64, word: &str, limit: Duration) {
    let label = format!("channel=\"{channel}\"");
    until_async(&format!("the breaker of {channel} {word}"), limit, || async {
        (metric(api, STATE, &label).await == state).then_some(())
    })
    .await;
    until_async(&format!("`{word}` of {channel} in the api"), limit, || async {
        let view = api.get(&format!("/v1/channels/{channel}")).await.ok()?.json();
        let breakers = view["breakers"].as_array()?.clone();
        breakers.iter().any(|breaker| breaker["state"] == word).then_some(())
    })
    .await;
}

#[test]
fn a_provider_that_is_away_costs_no_message_and_holds_up_no_other_channel() {
    let _turn = turn::alone();
    run(async {
        let away = Duration::from_secs(if long() { 600 } else { 20 });
        let (mut provider, mut lonely, healthy) =
            (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        let channels = telegram("tg", &provider, "") + &telegram("lone", &lonely, "");
        let mut cluster = Cluster::with(&(config("", "") + &channels));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        let seconds = 6.0 + away.as_secs_f64();
        let sent = plan("away", "tg:9{conversation}".to_owned(), seconds);
        let beside = plan("healthy", healthy.target("/inbox"), seconds);
        let (load, load_beside) = (Load::start(&sent, &api), Load::start(&beside, &api));
        let begin = SystemTime::now();
        until("messages through both", Duration::from_secs(20), || {
            (provider.taken() >= 150 && healthy.taken() >= 150).then_some(())
        })
        .await;

        let attempts = metric(&api, ATTEMPTS, "channel=\"tg\",outcome=\"transient\"").await;
        provider.goes_away().await;
        lonely.goes_away().await;
        let (left, left_at) = (Instant::now(), SystemTime::now());
        api.accepted("lone:7", "lone", "0").await;
        breaker_is(&api, "tg", 2.0, "open", Duration::from_secs(5)).await;
        tokio::time::sleep(away.saturating_sub(left.elapsed())).await;
        let tries = metric(&api, ATTEMPTS, "channel=\"tg\",outcome=\"transient\"").await - attempts;
        let accepted_meanwhile = load.count();

        provider.comes_back().await;
        lonely.comes_back().await;
        let (back, back_at) = (Instant::now(), SystemTime::now());
        let taken = provider.taken();
        let (mut first, mut first_lone) = (None, None);
        until("both to be called again", Duration::from_secs(30) + SLACK, || {
            first = first.or((provider.taken() > taken).then(|| back.elapsed()));
            first_lone = first_lone.or((lonely.taken() > 0).then(|| back.elapsed()));
            first.and(first_lone)
        })
        .await;
        let (accepted, _) = load.finish(Duration::from_secs(60)).await;
        let (accepted_beside, rate) = load_beside.finish(Duration::from_secs(60)).await;
        assert_eq!((accepted.len(), accepted_beside.len()), (sent.messages, beside.messages));
        at_rest(&api, Duration::from_secs(90)).await;
        let whole = back.elapsed();
        breaker_is(&api, "tg", 0.0, "closed", Duration::from_secs(5)).await;
        none_failed(&api).await;

        let again = must_be_whole(&provider.requests(), &sent);
        assert_eq!(must_be_whole(&healthy.requests(), &beside), 0, "the healthy one is sent nothing again");
        let gap = longest_gap(&healthy.requests(), left_at, back_at);
        let [before, during] = [(begin, left_at), (left_at, back_at)]
            .map(|(from, to)| percentiles(&mut latencies(&healthy.requests(), from, to)));
        println!(
            "provider away {away:?}: {} messages waited, {tries} calls meanwhile, first call {:.1?} after the return (a \
             single message's: {:.1?}), all delivered after {whole:.1?}, {again} sent again; the healthy channel at \
             {rate:.0}/s: longest gap {gap:.0?}, p50/p99 {before:.1?} before, {during:.1?} during",
            accepted_meanwhile - taken,
            first.expect("it was waited for"),
            first_lone.expect("it was waited for"),
        );
        // The failures that open it, what was in flight then, and three probes each time.
        let probes_max = 3.0 * (away.as_secs_f64() / 8.0 + 1.0);
        assert!(tries <= 20.0 + probes_max, "{tries} calls of a provider that is away");
        assert!(gap < Duration::from_secs(3), "the healthy channel stood still for {gap:?}");
        cluster.terminate_all().await;
    });
}

/// Each way of being away at once, on a channel of its own, with breakers that look again soon.
#[test]
fn refusing_hanging_and_answering_502_are_outages_alike() {
    let _turn = turn::alone();
    run(async {
        let quick = "attempt_timeout = \"1s\"\nbreaker = { open_for = \"1s\", open_for_max = \"3s\" }";
        let names = ["refuses", "hangs", "answers-502"];
        let mut providers = Vec::new();
        let mut text = config("", "");
        for name in names {
            let provider = Receiver::start().await;
            text += &telegram(name, &provider, quick);
            providers.push(provider);
        }
        let mut cluster = Cluster::with(&text);
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        let plans = names.map(|name| plan(name, format!("{name}:9{{conversation}}"), 8.0));
        let loads = plans.each_ref().map(|plan| Load::start(plan, &api));
        until("messages through all", Duration::from_secs(20), || {
            providers.iter().all(|provider| provider.taken() >= 50).then_some(())
        })
        .await;
        providers[0].goes_away().await;
        telegram_answers(&providers[1], Reply::Hang);
        telegram_answers(&providers[2], Reply::Status(502));
        let called: Vec<usize> = providers.iter().map(|provider| provider.requests().len()).collect();
        for name in names {
            breaker_is(&api, name, 2.0, "open", Duration::from_secs(8)).await;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        let calls: Vec<usize> =
            providers.iter().zip(&called).map(|(provider, before)| provider.requests().len() - before).collect();
        let taken: Vec<usize> = providers.iter().map(Receiver::taken).collect();
        providers[0].comes_back().await;
        providers[1..].iter().for_each(telegram_takes);
        let back = Instant::now();
        let mut firsts = [None; 3];
        until("calls of all", Duration::from_secs(3) + SLACK, || {
            for (first, (provider, before)) in firsts.iter_mut().zip(providers.iter().zip(&taken)) {
                *first = first.or((provider.taken() > *before).then(|| back.elapsed()));
            }
            firsts.iter().all(Option::is_some).then_some(())
        })
        .await;
        for (load, plan) in loads.into_iter().zip(&plans) {
            assert_eq!(load.finish(Duration::from_secs(60)).await.0.len(), plan.messages);
        }
        at_rest(&api, Duration::from_secs(60)).await;
        none_failed(&api).await;
        for (number, plan) in plans.iter().enumerate() {
            let again = must_be_whole(&providers[number].requests(), plan);
            println!(
                "{}: {} calls while away, first call {:.1?} after the return, {again} sent again",
                plan.name,
                calls[number],
                firsts[number].expect("it was waited for")
            );
            // Up to 20 lanes are in flight when it begins; then three probes each time.
            assert!(calls[number] <= 20 + 3 * 8, "{}: {} calls", plan.name, calls[number]);
            breaker_is(&api, plan.name, 0.0, "closed", Duration::from_secs(5)).await;
        }
        cluster.terminate_all().await;
    });
}
