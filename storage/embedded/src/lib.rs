//! The ports on SQLite files that several processes share.

mod abort;
mod checkpoint;
mod doctor;
pub mod log;
pub mod sqlite;
pub mod status;
pub mod turnstile;
