//! Whether a process can do its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat4all_api::ops::Readiness;
use chat4all_proto::{Topic, http};
use chat4all_runtime::Shutdown;
use chat4all_storage::{Log, Status};

use super::Role;
use crate::config::{Config, LogEngine, StatusEngine};
use crate::metrics;

const PATIENCE: Duration = Duration::from_secs(1);
/// How often metrics tell it.
const INTERVAL: Duration = Duration::from_secs(5);

struct Engines {
    log: Arc<dyn Log>,
    /// Only for processes that write to it.
    status: Option<Arc<dyn Status>>,
}

/// Readiness of a process that has no api.
pub fn of(log: &Arc<dyn Log>, status: &Arc<dyn Status>, roles: &BTreeSet<Role>) -> Arc<dyn Readiness> {
    let status = roles.contains(&Role::Recorder).then(|| Arc::clone(status));
    Arc::new(Engines { log: Arc::clone(log), status })
}

/// Has metrics tell whether the process is ready and how full its disks are, until shutdown.
pub async fn measure(readiness: Arc<dyn Readiness>, roles: BTreeSet<Role>, config: Config, shutdown: Shutdown) {
    loop {
        let ready = readiness.readiness().await.ready;
        roles.iter().for_each(|role| metrics::record_ready(*role, ready && !shutdown.is_requested()));
        if let LogEngine::Embedded(folder) = &config.log {
            metrics::record_disk("log", folder);
        }
        if let StatusEngine::Embedded(folder) = &config.status {
            metrics::record_disk("status", folder);
        }
        if shutdown.is_requested() {
            return;
        }
        tokio::select! {
            () = shutdown.requested() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[async_trait]
impl Readiness for Engines {
    async fn readiness(&self) -> http::Readiness {
        let mut parts = vec![part("log", self.log.ends(&Topic::Messages)).await];
        if let Some(status) = &self.status {
            parts.push(part("status", status.check()).await);
        }
        http::Readiness { ready: parts.iter().all(|part| part.ready), parts }
    }
}

async fn part<T, E: ToString>(name: &str, answer: impl Future<Output = Result<T, E>>) -> http::Part {
    let problem = match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {PATIENCE:?}")),
    };
    http::Part { name: name.to_owned(), ready: problem.is_none(), detail: problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always answers the same.
    struct Says(bool);

    #[async_trait]
    impl Readiness for Says {
        async fn readiness(&self) -> http::Readiness {
            http::Readiness { ready: self.0, parts: Vec::new() }
        }
    }

    async fn until(role: Role, ready: i64) {
        let shown = async {
            while metrics::ready(role) != ready {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), shown).await.expect("shown in time");
    }

    #[tokio::test]
    async fn metrics_show_who_is_not_ready_and_who_is_ending() {
        let shutdown = Shutdown::new();
        let start = |role, ready| {
            tokio::spawn(measure(Arc::new(Says(ready)), BTreeSet::from([role]), Config::default(), shutdown.clone()))
        };
        metrics::record_ready(Role::Router, true);
        let (away, well) = (start(Role::Router, false), start(Role::Recorder, true));
        until(Role::Router, 0).await;
        until(Role::Recorder, 1).await;
        shutdown.request();
        for ended in [away, well] {
            ended.await.expect("no panic");
        }
        assert_eq!(metrics::ready(Role::Recorder), 0, "it ends");
    }
}
