//! Writes the topic `control` on behalf of operators, and deletes from it what nobody needs any more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::control::{Breaker, Cancelled, DrainWanted};
use chat4all_proto::{ControlKey, Timestamp, Topic};
use chat4all_runtime::{Control, clock};
use chat4all_storage::Log;
use chat4all_storage::log::{self, AppendError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::Api;
use crate::error::{Code, Error};

/// What a process said may be deleted once it is gone, but not before: it may have told nobody yet that it is there.
const STARTING_MAX: Duration = Duration::from_secs(60);

impl Api {
    /// Sets (`None`: removes) a value. Durable when it returns; whatever it comes to, it may be repeated.
    pub(crate) async fn put_control<V: Serialize>(&self, key: &ControlKey, value: Option<&V>) -> Result<(), Error> {
        let value = value.map(|value| serde_json::to_vec(value).expect("an entry is plain data").into());
        let key = key.to_string();
        let put = self.log.put_latest(&Topic::Control, &key, value);
        let unknown = |cause: String| {
            let detail = "the log did not answer in time; repeat it: a second time does nothing more";
            Err(Error::new(Code::OutcomeUnknown, detail).because(cause))
        };
        match timeout(self.options.append_timeout, put).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ AppendError::Unknown(_))) => unknown(error.to_string()),
            Err(_) => unknown("no answer in time".into()),
            Ok(Err(error @ (AppendError::Unavailable(_) | AppendError::Fenced))) => {
                let detail = "the log takes nothing now; nothing was changed";
                Err(Error::new(Code::LogUnavailable, detail).because(error.to_string()))
            }
            Ok(Err(error @ AppendError::Refused(_))) => Err(Error::internal(error.to_string())),
        }
    }

    /// Waits until this process knows of a change that was made, for a while: whoever asks it next sees it too.
    pub(crate) async fn knows(&self, is_so: impl FnMut(&Arc<Control>) -> bool) {
        let mut control = self.control.clone();
        let _ = timeout(self.options.append_timeout, control.wait_for(is_so)).await; // it will know later
    }
}

/// Deletes what is over, once an interval, for as long as it is polled.
pub(crate) async fn sweep(log: Arc<dyn Log>, interval: Duration) {
    loop {
        sleep(interval).await;
        if let Err(error) = sweep_once(&*log, clock::now()).await {
            tracing::debug!(%error, "the topic `control` was not swept");
        }
    }
}

async fn sweep_once(log: &dyn Log, now: Timestamp) -> Result<(), AppendError> {
    let values = Arc::clone(&log.follow_latest(&Topic::Control).await?.borrow());
    let processes = processes(log).await?;
    for (key, value) in values.iter().filter(|(key, value)| is_over(key, value, now, &processes)) {
        tracing::debug!(key, bytes = value.len(), "deleted from the topic `control`: it is over");
        log.put_latest(&Topic::Control, key, None).await?;
    }
    Ok(())
}

async fn processes(log: &dyn Log) -> Result<Vec<String>, log::Error> {
    Ok(log.cluster().await?.processes.into_iter().map(|process| process.process).collect())
}

/// Whether nobody needs the value any more. `processes` are those that are not forgotten yet. What cannot be read stays: a
/// later version wrote it.
fn is_over(key: &str, value: &Bytes, now: Timestamp, processes: &[String]) -> bool {
    let is_gone = |process: &String, said_at: Option<Timestamp>| {
        said_at.is_some_and(|at| now.saturating_since(at) > STARTING_MAX) && !processes.contains(process)
    };
    match key.parse() {
        Ok(ControlKey::Cancelled(_)) => read::<Cancelled>(value).is_some_and(|cancelled| cancelled.until <= now),
        Ok(ControlKey::Drain(process)) => is_gone(&process, read::<DrainWanted>(value).map(|wanted| wanted.at)),
        Ok(ControlKey::Breaker { process, .. }) => is_gone(&process, read::<Breaker>(value).map(|said| said.since)),
        Ok(ControlKey::Paused(_)) | Err(_) => false,
    }
}

fn read<T: DeserializeOwned>(value: &Bytes) -> Option<T> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_any_more_is_over() {
        let now = Timestamp::from_millis(1_000_000);
        let check = |key: &str, value: &'static str, expected: bool| {
            assert_eq!(is_over(key, &Bytes::from(value), now, &["here".into()]), expected, "{key} {value}");
        };
        let id = "cancelled/msg_018f4e0e-0000-7000-8000-000000000001";
        check(id, r#"{"v":1,"at":7,"until":1000000}"#, true);
        check(id, r#"{"v":1,"at":7,"until":1000001}"#, false);
        check(id, r#"{"v":2,"until":7}"#, false);
        check("drain/gone", r#"{"v":1,"at":7}"#, true);
        check("drain/gone", r#"{"v":1,"at":940000}"#, false);
        check("drain/here", r#"{"v":1,"at":7}"#, false);
        check("breaker/hook/gone", r#"{"v":1,"state":"open","since":7}"#, true);
        check("breaker/hook/here", r#"{"v":1,"state":"open","since":7}"#, false);
        check("paused/hook", r#"{"v":1,"since":7}"#, false);
        check("of-a-later-version/x", "7", false);
    }
}
