//! What a configuration must keep to as a whole. Runs before anything opens.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use chat4all_channels::Callbacks;
use chat4all_proto::ChannelName;
use chat4all_proto::envelope::EXPIRY_MAX;
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use super::load::Invalid;
use super::{Breaker, Channel, Config, Kind};

/// The log keeps records at least as long as a message may live, and a day more.
pub const RETENTION_MIN: Duration = EXPIRY_MAX.saturating_add(Duration::from_secs(24 * 3_600));
/// Shorter than the time in which a partition must be drained.
pub const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(15);

/// The first thing wrong, by its key.
pub(super) fn check(config: &Config) -> Result<(), Invalid> {
    let seconds = Duration::from_secs;
    log_level(config)?;
    within("partitions", config.partitions, 1..=1_024)?;
    if config.retention < RETENTION_MIN {
        return refuse("retention", "must be at least `192h`: the longest expiry of a message, 7 days, and 24 hours");
    }
    within_time("commit_interval", config.commit_interval, Duration::from_millis(1)..=seconds(10))?;
    within_time("session_timeout", config.session_timeout, seconds(1)..=seconds(3_600))?;
    within("in_memory.records", config.in_memory.records, 1..=10_000_000)?;
    if config.in_memory.bytes < 1 << 20 {
        return refuse("in_memory.bytes", "must be at least `1MiB`, room for a few of the largest messages");
    }
    within("api.workers", config.api.workers, 1..=256)?;
    within("connectors.threads", config.connectors.threads, 1..=256)?;
    config.tracing.check()?;
    api_key(config)?;
    callbacks(config)?;
    if config.api.listen == config.simulator.listen && config.api.listen.port() != 0 {
        return refuse("simulator.listen", "is the address of `api.listen` already");
    }
    config.channels.iter().try_for_each(|(name, channel)| check_channel(&format!("channels.{name}"), channel))?;
    accounts(config)
}

/// A provider's call names the account: it must say which channel it is for.
fn accounts(config: &Config) -> Result<(), Invalid> {
    let mut seen: HashMap<(Kind, String), &ChannelName> = HashMap::new();
    for (name, channel) in &config.channels {
        let connector = channel.connector().map_err(|invalid| invalid.below(&format!("channels.{name}")))?;
        let account = connector.callbacks().and_then(Callbacks::account).map(str::to_owned);
        if let Some(other) = account.and_then(|account| seen.insert((channel.kind, account), name)) {
            return refuse(&format!("channels.{name}"), &format!("is the account of `channels.{other}` already"));
        }
    }
    Ok(())
}

fn check_channel(key: &str, channel: &Channel) -> Result<(), Invalid> {
    let attempt_timeouts = Duration::from_millis(1)..=ATTEMPT_TIMEOUT_MAX;
    within_time(&format!("{key}.attempt_timeout"), channel.attempt_timeout(), attempt_timeouts)?;
    within(&format!("{key}.limits.in_flight"), channel.limits.in_flight, 1..=65_536)?;
    if let Some(per_second) = channel.limits.per_second {
        within(&format!("{key}.limits.per_second"), per_second, 0.001..=1_000_000.0)?;
    }
    let limits = &channel.limits;
    let rates = [("destination", limits.destination), ("recipient", limits.recipient), ("tenant", limits.tenant)];
    for (name, rate) in rates.into_iter().filter_map(|(name, rate)| Some((name, rate?))) {
        let every = Duration::from_micros(1)..=Duration::from_secs(24 * 3_600);
        within_time(&format!("{key}.limits.{name}.every"), rate.every, every)?;
        within(&format!("{key}.limits.{name}.burst"), rate.burst, 1..=1_000_000)?;
    }
    breaker(&format!("{key}.breaker"), &channel.breaker)?;
    within(&format!("{key}.retry.attempts"), channel.retry.attempts, 1..=100)?;
    let backoff = format!("{key}.retry.backoff");
    if channel.retry.backoff.is_empty() {
        return refuse(&backoff, "must have at least one entry");
    }
    for &delay in &channel.retry.backoff {
        within_time(&backoff, delay, Duration::ZERO..=Duration::from_secs(3_600))?;
    }
    channel.connector().map(drop).map_err(|invalid| invalid.below(key))
}

fn breaker(key: &str, breaker: &Breaker) -> Result<(), Invalid> {
    within(&format!("{key}.failure_rate"), breaker.failure_rate, 0.01..=1.0)?;
    within(&format!("{key}.window"), breaker.window, 1..=10_000)?;
    within(&format!("{key}.consecutive"), breaker.consecutive, 1..=10_000)?;
    within(&format!("{key}.probes"), breaker.probes, 1..=1_000)?;
    let times = Duration::from_millis(1)..=Duration::from_secs(3_600);
    within_time(&format!("{key}.slow_call"), breaker.slow_call, times.clone())?;
    within_time(&format!("{key}.open_for"), breaker.open_for, times.clone())?;
    within_time(&format!("{key}.open_for_max"), breaker.open_for_max, times)?;
    if breaker.open_for > breaker.open_for_max {
        return refuse(&format!("{key}.open_for_max"), "must be at least as long as `open_for`");
    }
    Ok(())
}

fn callbacks(config: &Config) -> Result<(), Invalid> {
    let is_http = |text: &String| text.starts_with("http://") || text.starts_with("https://");
    match &config.simulator.callbacks {
        Some(url) if !is_http(url) => {
            refuse("simulator.callbacks", "must be a URL, like `http://127.0.0.1:8080/v1/callbacks`")
        }
        _ => Ok(()),
    }
}

fn log_level(config: &Config) -> Result<(), Invalid> {
    // A bare word that is no level would be taken for a module, and silence everything else.
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let is_known = |word: &str| word.contains(['=', '[']) || levels.contains(&word.to_ascii_lowercase().as_str());
    let words_known = config.log_level.split(',').map(str::trim).all(is_known);
    match EnvFilter::try_new(&config.log_level) {
        Ok(_) if words_known => Ok(()),
        _ => refuse("log_level", "must be a level like `info`, or directives like `warn,chat4all_api=debug`"),
    }
}

fn api_key(config: &Config) -> Result<(), Invalid> {
    match &config.api.api_key {
        None if !config.api.listen.ip().is_loopback() => refuse(
            "api.api_key",
            &format!(
                "is missing: without one `api.listen` must be a loopback address, and it is `{}`",
                config.api.listen
            ),
        ),
        Some(key) if !key.value().expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) => {
            refuse("api.api_key", "must be printable ASCII without spaces, since it travels in a header")
        }
        _ => Ok(()),
    }
}

fn within<N: PartialOrd + std::fmt::Display>(key: &str, value: N, range: RangeInclusive<N>) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    refuse(key, &format!("must be from {} to {}, and it is `{value}`", range.start(), range.end()))
}

fn within_time(key: &str, value: Duration, range: RangeInclusive<Duration>) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    let show = humantime::format_duration;
    refuse(
        key,
        &format!("must be from `{}` to `{}`, and it is `{}`", show(*range.start()), show(*range.end()), show(value)),
    )
}

fn refuse(key: &str, problem: &str) -> Result<(), Invalid> {
    Err(Invalid { key: key.to_owned(), problem: problem.to_owned() })
}
