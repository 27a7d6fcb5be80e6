//! Rates are for the whole cluster, whoever holds the partitions, and for each recipient.

use std::time::{Duration, Instant, SystemTime};

use crate::harness::arrivals::must_be_whole;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, config};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::{Received, Receiver};
use crate::harness::{run, turn, until};
use crate::takeover::shared_by;

const PER_SECOND: usize = 40;
/// A burst of each process, and calls whose way here took longer than that of the next ones.
const MORE: usize = 6;
const MEASURED: Duration = Duration::from_secs(5);

/// Most requests in any one second, and the mean of a second, from `from` on.
fn rates(requests: &[Received], from: SystemTime, time: Duration) -> (usize, f64) {
    let mut times: Vec<SystemTime> = requests.iter().map(|request| request.at).collect();
    times.retain(|at| (from..from + time).contains(at));
    times.sort_unstable();
    let within = |from: SystemTime| times.partition_point(|at| *at < from + Duration::from_secs(1));
    let most = times.iter().enumerate().map(|(place, at)| within(*at) - place).max().unwrap_or(0);
    (most, times.len() as f64 / time.as_secs_f64())
}

#[test]
fn a_rate_holds_over_two_processes_and_after_one_is_killed() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        let slow = "[channels.slow]\nkind = \"webhook\"\nallow_private_targets = true\n\
                    limits = { recipient = { every = \"500ms\", burst = 2 } }\n";
        let hook = format!("limits = {{ per_second = {PER_SECOND} }}");
        let mut cluster = Cluster::with(&(config("", &hook) + slow));
        let front = cluster.start(&["api", "router", "recorder"]).await;
        let victim = cluster.start(&["connectors"]).await;
        cluster.start(&["connectors"]).await;
        let api = Api::new(cluster.url(front, "api"));
        shared_by(&api, "hook-outbound", 2, Duration::from_secs(20)).await;

        let plan = Plan {
            name: "limited",
            conversations: 60,
            messages: 600,
            per_second: 300.0,
            target: receiver.target("/limited"),
            insists: true,
        };
        let load = Load::start(&plan, &api);
        until("the first calls", Duration::from_secs(10), || (receiver.taken() >= PER_SECOND).then_some(())).await;
        let both = SystemTime::now();
        tokio::time::sleep(MEASURED).await;
        cluster.kill(victim);
        let killed = Instant::now();
        shared_by(&api, "hook-outbound", 1, Duration::from_secs(20)).await;
        let took = killed.elapsed();
        let one = SystemTime::now();
        tokio::time::sleep(MEASURED).await;
        let requests = receiver.requests_on("/limited");
        let (most_both, mean_both) = rates(&requests, both, MEASURED);
        let (most_one, mean_one) = rates(&requests, one, MEASURED);
        // Whatever happened between, too.
        let (most, _) = rates(&requests, both, one.duration_since(both).expect("later") + MEASURED);
        println!(
            "limit of {PER_SECOND}/s: two processes {mean_both:.1}/s, at most {most_both} in a second; one killed (taken over \
             in {took:.1?}) {mean_one:.1}/s, at most {most_one}; over all at most {most}"
        );
        for (most, mean) in [(most_both, mean_both), (most_one, mean_one)] {
            assert!(most <= PER_SECOND + MORE, "{most} in a second");
            assert!(mean >= 0.8 * PER_SECOND as f64, "only {mean}/s");
        }
        assert!(most <= PER_SECOND + MORE, "{most} in a second");
        load.finish(Duration::from_secs(30)).await;
        recipient(&api, &receiver).await;
        // And the nine of the other channel.
        let all = plan.messages + 9;
        until("all", Duration::from_secs(30), || (receiver.distinct() >= all).then_some(())).await;
        let again = must_be_whole(&receiver.requests_on("/limited"), &plan);
        println!("limit: {again} sent again after the kill");
        cluster.terminate_all().await;
    });
}

/// A recipient gets two at once and then one each 500 ms; another one does not wait for it.
async fn recipient(api: &Api, receiver: &Receiver) {
    let [one, other] = ["/one", "/other"].map(|path| receiver.target(path).replace("hook:", "slow:"));
    for number in 0..8 {
        api.accepted(&one, "one", &number.to_string()).await;
    }
    let sent = SystemTime::now();
    api.accepted(&other, "other", "0").await;
    until("all of both", Duration::from_secs(10), || {
        (receiver.requests_on("/one").len() == 8 && receiver.requests_on("/other").len() == 1).then_some(())
    })
    .await;
    let times: Vec<SystemTime> = receiver.requests_on("/one").iter().map(|request| request.at).collect();
    let apart: Vec<Duration> =
        times.windows(2).map(|pair| pair[1].duration_since(pair[0]).expect("in order")).collect();
    let waited = receiver.requests_on("/other")[0].at.duration_since(sent).unwrap_or_default();
    println!("limit of a recipient: {apart:.0?} apart; another one waited {waited:.0?}");
    assert!(apart[2..].iter().all(|apart| *apart >= Duration::from_millis(300)), "{apart:?}");
    assert!(apart[2..].iter().sum::<Duration>() >= Duration::from_millis(2_400), "{apart:?}");
    assert!(waited < Duration::from_secs(1), "another one waited {waited:?}");
}
