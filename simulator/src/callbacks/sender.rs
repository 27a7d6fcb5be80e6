//! Posts callbacks as they fall due, many at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::warn;

use super::Callbacks;
use crate::providers::Callback;

const IN_FLIGHT_MAX: usize = 64;
/// For one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until it is dropped. Costs nothing while nothing is due.
pub async fn run(callbacks: Arc<Callbacks>) {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut client = None;
    loop {
        let slot = slots.clone().acquire_owned().await.expect("nobody closes it");
        let (waiting, url) = callbacks.due().await;
        // Made for the first callback: a process that has none need not have chosen a TLS provider, which reqwest wants
        // even for plain HTTP.
        let client = match &client {
            Some(client) => client,
            None => match new_client() {
                Ok(new) => client.insert(new),
                Err(error) => return warn!(%error, "nobody is called back: the HTTP client cannot be made"),
            },
        };
        let (callbacks, client) = (callbacks.clone(), client.clone());
        tokio::spawn(async move {
            let status = post(&client, &url, &waiting.callback).await;
            callbacks.ended(waiting, status);
            drop(slot);
        });
    }
}

fn new_client() -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().timeout(ATTEMPT_TIMEOUT);
    let client = client.redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
    // No `https`, no certificates.
    client.tls_certs_only([]).build()
}

/// The status answered, if there was one.
async fn post(client: &reqwest::Client, url: &str, callback: &Callback) -> Option<u16> {
    let (header, value) = &callback.header;
    let request = client.post(url).header("content-type", "application/json").header(*header, value);
    let response = request.body(callback.body.clone()).send().await.ok()?;
    let status = response.status().as_u16();
    // Read to the end, the connection serves again.
    let _ = response.bytes().await;
    Some(status)
}
