//! After each fault everything goes on by itself. Prints the table "Recovery with no hand" of docs/RELIABILITY.md.

use std::time::{Duration, Instant};

use crate::harness::arrivals::{at_rest, must_be_whole, none_failed, telegram};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, config};
use crate::harness::engines::{Engines, KAFKA};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{long, run, turn, until};
use crate::zombie::hang;

const WORKERS: [&str; 3] = ["router", "connectors", "recorder"];
const LIMIT: Duration = Duration::from_secs(60);
const MESSAGES: usize = 400;
const PER_SECOND: f64 = 200.0;

/// A server or a provider is away for so long.
fn away() -> Duration {
    Duration::from_secs(if long() { 60 } else { 4 })
}

struct Stage {
    engines: Engines,
    cluster: Cluster,
    api: Api,
    hook: Receiver,
    provider: Receiver,
    workers: [usize; 2],
}

impl Stage {
    async fn set(engines: Engines) -> Self {
        let (hook, provider) = (Receiver::start().await, Receiver::start().await);
        let text = config(&engines.config(), "") + &telegram("tg", &provider, "");
        let mut cluster = Cluster::with(&text);
        let api = cluster.start(&["api"]).await;
        let workers = [cluster.start(&WORKERS).await, cluster.start(&WORKERS).await];
        let api = Api::new(cluster.url(api, "api"));
        at_rest(&api, LIMIT).await;
        Self { engines, cluster, api, hook, provider, workers }
    }

    fn plan(&self, name: &'static str) -> Plan {
        let target = if name == PROVIDER { "tg:8{conversation}".to_owned() } else { self.hook.target(&path(name)) };
        Plan { name, conversations: 30, messages: MESSAGES, per_second: PER_SECOND, target, insists: true }
    }

    /// Two seconds of messages with the fault in their middle; from the time that it is over until nothing is left to do.
    async fn recovers(&mut self, name: &'static str) {
        let plan = self.plan(name);
        let load = Load::start(&plan, &self.api);
        until("half of the messages", LIMIT, || (load.count() >= MESSAGES / 2).then_some(())).await;
        let over = self.fault(name).await;
        assert_eq!(load.finish(LIMIT).await.0.len(), MESSAGES);
        at_rest(&self.api, LIMIT).await;
        let took = over.elapsed();
        none_failed(&self.api).await;
        let requests = if name == PROVIDER { self.provider.requests() } else { self.hook.requests_on(&path(name)) };
        let again = must_be_whole(&requests, &plan);
        println!("| {name} | {:.1} s | {again} |", took.as_secs_f64());
        self.mend(name).await;
    }

    /// Makes it; when it was over.
    async fn fault(&mut self, name: &str) -> Instant {
        match name {
            KILLED => self.cluster.kill(self.workers[0]),
            HUNG => hang(&self.engines, &self.cluster, self.workers[0]).await,
            ALL_KILLED => {
                for worker in self.workers {
                    self.cluster.kill(worker);
                }
                for worker in self.workers {
                    self.cluster.spawn(worker);
                }
            }
            PROVIDER => {
                self.provider.goes_away().await;
                tokio::time::sleep(away()).await;
                self.provider.comes_back().await;
            }
            DESTINATION => {
                self.hook.goes_away().await;
                tokio::time::sleep(away()).await;
                self.hook.comes_back().await;
            }
            LOG => {
                self.engines.servers().kill(KAFKA);
                tokio::time::sleep(away()).await;
                self.engines.servers().start(KAFKA);
            }
            _ => unreachable!("{name}"),
        }
        Instant::now()
    }

    /// Two workers for the next fault.
    async fn mend(&mut self, name: &str) {
        match name {
            KILLED => self.cluster.start_again(self.workers[0]).await,
            HUNG => self.cluster.go_on(self.workers[0]),
            _ => {}
        }
        at_rest(&self.api, LIMIT).await;
    }
}

const KILLED: &str = "one of two workers killed";
const HUNG: &str = "one of two workers hangs";
const ALL_KILLED: &str = "all workers killed and started again";
const PROVIDER: &str = "provider away";
const DESTINATION: &str = "destination away";
const LOG: &str = "log away";

fn path(name: &str) -> String {
    format!("/{}", name.replace(' ', "-"))
}

async fn all(engines: Engines, faults: &[&'static str]) {
    println!("recovery: what is away comes back after {:?}", away());
    let mut stage = Stage::set(engines).await;
    for fault in faults {
        stage.recovers(fault).await;
    }
    stage.cluster.terminate_all().await;
}

#[test]
fn every_fault_is_recovered_from_with_no_hand() {
    let _turn = turn::alone();
    run(all(Engines::Embedded, &[KILLED, HUNG, ALL_KILLED, PROVIDER, DESTINATION]));
}

#[test]
fn on_kafka_every_fault_is_recovered_from_with_no_hand() {
    let _turn = turn::alone();
    let Some(engines) = Engines::distributed("recovery on kafka") else { return };
    run(all(engines, &[KILLED, HUNG, ALL_KILLED, PROVIDER, DESTINATION, LOG]));
}
