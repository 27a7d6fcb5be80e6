//! The configured channels, as the roles want them.

use std::num::NonZeroU32;
use std::sync::Arc;

use chat4all_api::ChannelInfo;
use chat4all_channels::Channel as Provider;
use chat4all_engine::{breaker, gate, limits, retry};
use chat4all_proto::ChannelName;
use chat4all_runtime::Control;
use chat4all_runtime::worker::Limits;
use tokio::sync::watch;

use super::Error;
use crate::config::{Channel, Config, Invalid, Rate};

/// A channel with its connector.
pub struct Configured {
    name: ChannelName,
    config: Channel,
    provider: Arc<dyn Provider>,
}

/// Makes every channel's connector; the first that cannot be is named.
pub fn configure(config: &Config) -> Result<Vec<Configured>, Error> {
    config
        .channels
        .iter()
        .map(|(name, channel)| {
            let provider = channel.connector().map_err(|Invalid { key, problem }| Error::Channel {
                channel: name.to_string(),
                problem: format!("`{key}` {problem}"),
            })?;
            Ok(Configured { name: name.clone(), config: channel.clone(), provider })
        })
        .collect()
}

impl Configured {
    pub fn for_api(&self) -> ChannelInfo {
        ChannelInfo {
            name: self.name.clone(),
            channel: Arc::clone(&self.provider),
            in_flight_max: self.config.limits.in_flight,
            attempts_max: self.config.retry.attempts,
            group: chat4all_connectors::group(&self.name),
        }
    }

    pub fn for_connectors(
        &self,
        limits: Limits,
        control: &watch::Receiver<Arc<Control>>,
        config: &Config,
    ) -> chat4all_connectors::Settings {
        chat4all_connectors::Settings {
            name: self.name.clone(),
            provider: Arc::clone(&self.provider),
            http: chat4all_connectors::http::Options {
                allow_private_targets: self.provider.may_dial_private(),
                attempt_timeout: self.config.attempt_timeout(),
            },
            in_flight_max: self.config.limits.in_flight,
            resend_ambiguous: self.config.resends_ambiguous(&*self.provider),
            retry: retry::Policy {
                attempts_max: self.config.retry.attempts,
                backoff: self.config.retry.backoff.clone(),
            },
            breaker: breaker::Policy {
                failure_rate: self.config.breaker.failure_rate,
                window: self.config.breaker.window as usize,
                consecutive: self.config.breaker.consecutive,
                slow_call: self.config.breaker.slow_call,
                open_for: self.config.breaker.open_for,
                open_for_max: self.config.breaker.open_for_max,
                probes: self.config.breaker.probes as usize,
            },
            rates: gate::Limits {
                channel: self.config.limits.per_second.map(limits::Rate::per_second),
                destination: self.config.limits.destination.map(rate),
                recipient: self.config.recipient_rate().map(rate),
                tenant: self.config.limits.tenant.map(rate),
            },
            partitions: config.partitions,
            limits,
            commit_interval: config.commit_interval,
            repeats_kept: config.retention,
            control: control.clone(),
        }
    }

    pub fn refused(&self, error: &dyn std::error::Error) -> Error {
        Error::Channel { channel: self.name.to_string(), problem: error.to_string() }
    }
}

fn rate(Rate { every, burst }: Rate) -> limits::Rate {
    limits::Rate { every, burst: NonZeroU32::new(burst).expect("the configuration was checked") }
}
