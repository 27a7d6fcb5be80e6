//! What every role stands on: the ordered partition [`worker`], the [`supervisor`] that restarts actors, the [`clock`],
//! [`shutdown`], and what operators want ([`control`]). It knows the log's port and no role.

pub mod clock;
pub mod control;
pub mod metrics;
pub mod shutdown;
pub mod supervisor;
pub mod worker;

pub use control::Control;
pub use shutdown::Shutdown;
