//! What the tests of the adapters on real servers share: who the servers are, and all that this process logs.

mod logs;
mod server;

pub use logs::Logs;
pub use server::Server;
