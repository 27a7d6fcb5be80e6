//! The only process is killed, twenty times in a run.

use std::time::{Duration, Instant};

use crate::checker;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, long, quantile, run, turn, until};

#[test]
fn the_whole_process_killed_twenty_times_loses_nothing() {
    let _turn = turn::alone();
    run(async {
        let mut random = Random::from_env("process killed");
        let kills = if long() { 100 } else { 20 };
        let receiver = Receiver::start().await;
        receiver.wobbles(random.branch());
        let mut cluster = Cluster::with(&config("", PATIENT));
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let plan = Plan {
            name: "process-killed",
            conversations: 50,
            messages: kills * 250,
            per_second: 300.0,
            target: receiver.target("/inbox"),
            insists: true,
        };
        let load = Load::start(&plan, &api);
        let mut stalls = Vec::new();
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(200) + random.pause(Duration::from_millis(400))).await;
            cluster.kill(process);
            cluster.start_again(process).await;
            let (restarted, taken) = (Instant::now(), receiver.taken());
            api.moved(cluster.url(process, "api"));
            until("a delivery after the restart", Duration::from_secs(10), || (receiver.taken() > taken).then_some(()))
                .await;
            stalls.push(restarted.elapsed());
        }
        let (accepted, rate) = load.finish(Duration::from_secs(180)).await;
        assert_eq!((accepted.len(), checker::doubled(&accepted)), (plan.messages, 0));
        let limit = Duration::from_secs(30);
        until("all deliveries", limit, || (receiver.distinct() >= accepted.len()).then_some(())).await;
        for accepted in accepted.iter().step_by(50) {
            let view = api.ended(&accepted.message_id, Duration::from_secs(20)).await;
            assert_eq!(view["status"], "delivered", "{view}");
        }
        cluster.terminate_all().await;
        let evidence = Engines::Embedded.evidence(&cluster, accepted, &receiver);
        let verdict = checker::judge(&evidence);
        let (median, worst) = (quantile(&mut stalls, 0.5), quantile(&mut stalls, 1.0));
        println!(
            "process killed: {kills} kills, {} messages at {rate:.0}/s, {} duplicates, deliveries go on {median:?} \
             (median) and {worst:?} (worst) after the restart",
            plan.messages, verdict.duplicates
        );
        verdict.must_be_clean();
        ledger::must_be_written_once(&cluster.data(), ledger::HOOK);
        assert!(verdict.duplicates < 100 * kills, "{}", verdict.duplicates);
        assert!(median < Duration::from_secs(1), "{median:?} from the restart to the next delivery");
    });
}
