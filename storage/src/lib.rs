//! The ports to what must not be lost: the [`log`] that messages travel on and the [`status`] store that people ask.
//! The traits' docs are the contract; `log::conformance` and `status::conformance` check it on every adapter, and
//! `log::memory` and `status::memory` are adapters without files. Only the binary names the others.
//! [`diagnosis`] is what an adapter tells people about its engine.

mod crash;
pub mod diagnosis;
pub mod log;
pub mod status;

pub use crash::crash_point;
pub use log::Log;
pub use status::Status;
