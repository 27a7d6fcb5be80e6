//! Places where a test may have the process die as if it were killed, just there: before or after a step that must be durable.

/// Kills this process at once if the fail point `name` says `return`: nothing is flushed, closed or dropped. Nothing of it is
/// compiled in without the feature `failpoints`. The binary's crash matrix goes through all of them.
pub fn crash_point(name: &str) {
    let _ = name;
    fail::fail_point!(name, |_| {
        use rustix::process::{Signal, getpid, kill_process};
        let killed = kill_process(getpid(), Signal::KILL);
        unreachable!("no call returns after SIGKILL: {killed:?}")
    });
}
