//! `POST /inbound/PROVIDER`: a message from the other side, called back as the provider would.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{State, now};
use crate::answer::Answer;
use crate::providers::{Inbound, Provider};
use crate::wire::Request;

/// How long somebody waits to hear how the callback was taken.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A callback on its way.
pub struct Pending {
    provider_id: String,
    /// What the callback was answered last.
    status: watch::Receiver<Option<u16>>,
}

impl Pending {
    /// Returns when the callback was taken, in 5 s at the latest.
    pub async fn answer(mut self) -> Answer {
        let taken = self.status.wait_for(|status| matches!(status, Some(200..=299)));
        // Whether it was is in the status.
        let _ = timeout(WAIT_MAX, taken).await.is_ok();
        Answer::json(200, &json!({ "provider_id": self.provider_id, "status": *self.status.borrow() }))
    }
}

impl State {
    pub fn inbound(&mut self, request: &Request, at: Instant) -> Result<Pending, Answer> {
        let refuse = |field: Option<&str>, detail: &str| Answer::problem(422, "invalid_inbound", field, detail);
        let name = request.head.path.trim_start_matches("/inbound/");
        let provider = Provider::ALL.into_iter().find(|provider| provider.as_str() == name);
        let provider = provider.ok_or_else(|| Answer::problem(404, "not_found", None, "there is no such provider"))?;
        let message: Inbound =
            serde_json::from_slice(request.body()).map_err(|error| refuse(None, &error.to_string()))?;
        let (provider_id, callback) = self
            .providers
            .inbound(provider, &message, now())
            .map_err(|error| refuse(Some(error.field), error.detail))?;
        match self.callbacks.inbound(callback, at) {
            Some(status) => Ok(Pending { provider_id, status }),
            None => Err(Answer::problem(409, "no_callbacks", None, "PUT /callbacks says where callbacks go")),
        }
    }
}
