//! Carries what operators want of a channel to its gate, and tells them what its breaker is at.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat4all_engine::breaker::State;
use chat4all_proto::control::{Breaker, BreakerState};
use chat4all_proto::envelope::V1;
use chat4all_proto::{ControlKey, Topic};
use chat4all_runtime::{Control, Shutdown, clock};
use chat4all_storage::Log;
use tokio::sync::watch;
use tracing::debug;

use crate::partition_lanes::Shared;

/// How often it is looked whether the breaker has changed.
const LOOK: Duration = Duration::from_millis(250);

/// Obeys at once, and goes on doing so until shutdown. To be called before the channel takes partitions.
pub fn obey(shared: Arc<Shared>, mut control: watch::Receiver<Arc<Control>>, log: Arc<dyn Log>, shutdown: Shutdown) {
    apply(&shared, &control.borrow_and_update());
    actix::spawn(async move {
        let mut told = State::Closed;
        let mut look = tokio::time::interval(LOOK);
        let mut followed = true;
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                changed = control.changed(), if followed => match changed {
                    Ok(()) => apply(&shared, &control.borrow_and_update()),
                    Err(_) => followed = false,
                },
                _ = look.tick() => tell(&shared, &*log, &mut told).await,
            }
        }
    });
}

fn apply(shared: &Shared, control: &Control) {
    let mut gate = shared.gate();
    gate.set_paused(control.paused.contains_key(&shared.name));
    gate.set_cancelled(Arc::clone(&control.cancelled));
}

async fn tell(shared: &Shared, log: &dyn Log, told: &mut State) {
    let (state, until) = {
        let gate = shared.gate();
        (gate.state(), gate.tried_again())
    };
    if state == *told {
        return;
    }
    let now = clock::now();
    let breaker = Breaker {
        v: V1,
        state: match state {
            State::Closed => BreakerState::Closed,
            State::HalfOpen => BreakerState::HalfOpen,
            State::Open => BreakerState::Open,
        },
        since: now,
        until: until.map(|until| now.saturating_add(until.saturating_duration_since(clock::instant()))),
    };
    let key = ControlKey::Breaker { channel: shared.name.clone(), process: log.process().to_owned() };
    let value = Bytes::from(serde_json::to_vec(&breaker).expect("an envelope is plain data"));
    match log.put_latest(&Topic::Control, &key.to_string(), Some(value)).await {
        Ok(()) => *told = state,
        // The log is away: whoever asks is told later.
        Err(error) => debug!(channel = %shared.name, %error, "the breaker's state could not be told"),
    }
}
