//! Keeps trying until Cassandra is there. From then on the driver mends its connections itself.

use std::sync::Arc;
use std::time::Duration;

use chat4all_storage::diagnosis::Part;
use chat4all_storage::status::Error;
use tokio::sync::watch;

use crate::failure;
use crate::options::Options;
use crate::store::{self, Store};

/// Between two tries: doubling from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// For one try: connecting, making the tables, preparing.
const OPEN_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Why every call fails as yet.
    Away(Error),
    Open(Arc<Store>),
    Closed,
}

impl State {
    pub(crate) fn store(&self) -> Result<Arc<Store>, Error> {
        match self {
            Self::Away(error) => Err(error.clone()),
            Self::Open(store) => Ok(Arc::clone(store)),
            Self::Closed => Err(failure::closed()),
        }
    }
}

/// Ends when Cassandra is there, or with its task.
pub(crate) async fn keep_trying(options: Options, state: Arc<watch::Sender<State>>) {
    let mut pause = PAUSE_MIN;
    loop {
        match try_once(&options).await {
            Ok(store) => return open(&options, &state, store),
            Err(error) => tell(&state, error),
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

async fn try_once(options: &Options) -> Result<Store, Error> {
    within_a_try(Store::open(options)).await
}

/// Makes the keyspace and its tables where they are missing, and says what there is now. `Refused` with what to do if a
/// person must act. Tries once, for 60 s at most.
pub async fn make_tables(options: &Options) -> Result<Vec<Part>, Error> {
    options.validate()?;
    within_a_try(store::migrate(options)).await
}

/// As [`make_tables`], without the list.
pub async fn migrate(options: &Options) -> Result<(), Error> {
    make_tables(options).await.map(drop)
}

async fn within_a_try<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable(format!("Cassandra did not answer within `{}` s", OPEN_MAX.as_secs()));
    tokio::time::timeout(OPEN_MAX, work).await.map_err(late)?
}

fn open(options: &Options, state: &watch::Sender<State>, store: Store) {
    let (address, keyspace, nodes) = (options.nodes.join(","), &options.keyspace, store.nodes());
    let (tls, user) = (options.tls.is_some(), options.credentials.as_ref().map(|login| login.user.as_str()));
    tracing::info!(address, nodes, keyspace, tls, user, "connected to Cassandra");
    change(state, State::Open(Arc::new(store)));
}

/// A person must act on a refusal: each new one is logged once.
fn tell(state: &watch::Sender<State>, error: Error) {
    let is_new = !matches!(&*state.borrow(), State::Away(known) if *known == error);
    if is_new {
        tracing::warn!(%error, "Cassandra cannot be used yet");
        change(state, State::Away(error));
    }
}

/// What is closed stays so.
fn change(state: &watch::Sender<State>, new: State) {
    state.send_if_modified(|state| {
        let is_open = !matches!(state, State::Closed);
        if is_open {
            *state = new;
        }
        is_open
    });
}
