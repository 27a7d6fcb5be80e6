//! What every role stands on: the ordered partition [`worker`], the [`supervisor`] that restarts actors, the [`clock`],
//! [`shutdown`], what operators want ([`control`]), and the spans of traces ([`trace`]). It knows the log's port and no role.

pub mod clock;
pub mod control;
pub mod metrics;
pub mod shutdown;
pub mod supervisor;
pub mod trace;
pub mod worker;

pub use control::Control;
pub use shutdown::Shutdown;
