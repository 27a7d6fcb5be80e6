//! Restarts actors that died of a panic. actix closes a panicked actor's mailbox and leaves it at that; here a factory
//! makes a new one after a pause, and whoever asks for the address gets the new one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix::{Actor, Addr};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use crate::{Shutdown, clock, metrics};

/// More restarts than this within [`WINDOW`] end the process: the fault is not one that a restart mends.
pub const RESTARTS_MAX: usize = 5;
pub const WINDOW: Duration = Duration::from_secs(60);
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// Held by an actor as a field: when the actor is dropped, by a panic or otherwise, whoever holds the matching
/// [`Pulse`] learns of it.
#[derive(Debug)]
pub struct Alive(#[expect(dead_code, reason = "works by being dropped")] DropGuard);

/// Tells when the holder of the matching [`Alive`] is gone.
#[derive(Debug, Clone)]
pub struct Pulse(CancellationToken);

/// Makes a pair of them.
pub fn pulse() -> (Alive, Pulse) {
    let token = CancellationToken::new();
    (Alive(token.clone().drop_guard()), Pulse(token))
}

impl Pulse {
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }
}

/// How often something has been restarted lately.
#[derive(Debug, Default)]
pub struct Restarts {
    recent: VecDeque<Instant>,
}

/// What to do about a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    RestartAfter(Duration),
    GiveUp,
}

impl Restarts {
    /// Counts a death at `now`. The pause doubles with each death of the last minute.
    pub fn died(&mut self, now: Instant) -> Verdict {
        self.recent.retain(|&at| now.saturating_duration_since(at) < WINDOW);
        self.recent.push_back(now);
        let deaths = self.recent.len();
        if deaths > RESTARTS_MAX {
            return Verdict::GiveUp;
        }
        Verdict::RestartAfter(PAUSE_FIRST * 2u32.pow(u32::try_from(deaths - 1).expect("at most RESTARTS_MAX")))
    }
}

/// The current address of a supervised actor.
#[derive(Debug)]
pub struct Handle<A: Actor> {
    current: watch::Receiver<Addr<A>>,
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self { current: self.current.clone() }
    }
}

impl<A: Actor> Handle<A> {
    /// Where to send to now. It may be dead: then sending fails, and a later call gives its successor.
    pub fn addr(&self) -> Addr<A> {
        self.current.borrow().clone()
    }
}

/// Starts an actor through `factory` and keeps one running until shutdown is requested or every handle is dropped.
/// The factory puts the [`Alive`] into the actor. `name` is the label of `chat4all_actor_restarts_total`.
/// Must be called within an actix system.
pub fn supervise<A: Actor>(
    name: &'static str,
    shutdown: Shutdown,
    factory: impl Fn(Alive) -> Addr<A> + 'static,
) -> Handle<A> {
    let (alive, mut pulse_now) = pulse();
    let (current, receiver) = watch::channel(factory(alive));
    actix::spawn(async move {
        let mut restarts = Restarts::default();
        loop {
            tokio::select! {
                () = pulse_now.stopped() => {}
                () = current.closed() => return,
            }
            if shutdown.is_requested() {
                return;
            }
            match restarts.died(clock::instant()) {
                Verdict::GiveUp => {
                    return shutdown.fail(format!("actor `{name}` died {} times within a minute", RESTARTS_MAX + 1));
                }
                Verdict::RestartAfter(pause) => {
                    error!(actor = name, pause_ms = pause.as_millis(), "an actor died of a panic and is restarted");
                    metrics::record_restart(name);
                    tokio::time::sleep(pause).await;
                }
            }
            let (alive, next) = pulse();
            pulse_now = next;
            current.send_replace(factory(alive));
        }
    });
    Handle { current: receiver }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Context, Handler, Message};

    #[test]
    fn the_sixth_death_within_a_minute_is_the_last() {
        let start = clock::instant();
        let mut restarts = Restarts::default();
        for n in 0..5 {
            assert!(matches!(restarts.died(start + Duration::from_secs(n)), Verdict::RestartAfter(_)));
        }
        assert_eq!(restarts.died(start + Duration::from_secs(59)), Verdict::GiveUp);
    }

    #[test]
    fn deaths_a_minute_apart_do_not_add_up() {
        let start = clock::instant();
        let mut restarts = Restarts::default();
        for n in 0..20 {
            assert_eq!(restarts.died(start + WINDOW * n), Verdict::RestartAfter(PAUSE_FIRST));
        }
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Divide(u32);

    struct Divider {
        _alive: Alive,
    }

    impl Actor for Divider {
        type Context = Context<Self>;
    }

    impl Handler<Divide> for Divider {
        type Result = u32;

        fn handle(&mut self, Divide(by): Divide, _: &mut Context<Self>) -> u32 {
            100 / by
        }
    }

    #[actix::test]
    async fn an_actor_that_panics_gets_a_successor_under_the_same_handle() {
        let handle = supervise("divider", Shutdown::new(), |alive| Divider { _alive: alive }.start());
        assert_eq!(handle.addr().send(Divide(5)).await, Ok(20));
        let mut changed = handle.current.clone();
        changed.mark_unchanged();
        assert!(handle.addr().send(Divide(0)).await.is_err());
        tokio::time::timeout(Duration::from_secs(5), changed.changed()).await.expect("restarted").expect("supervised");
        assert_eq!(handle.addr().send(Divide(4)).await, Ok(25));
    }
}
