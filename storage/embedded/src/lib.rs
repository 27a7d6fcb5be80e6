//! The ports on SQLite files that several processes share.

pub mod log;
pub mod sqlite;
pub mod status;
pub mod turnstile;
