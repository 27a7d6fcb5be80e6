//! What every role stands on: the ordered partition [`worker`], the [`supervisor`] that restarts actors, the [`clock`],
//! and [`shutdown`]. It knows the log's port and no role.

pub mod clock;
pub mod metrics;
pub mod shutdown;
pub mod supervisor;
pub mod worker;

pub use shutdown::Shutdown;
