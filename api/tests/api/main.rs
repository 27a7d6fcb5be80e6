//! The API over real HTTP, against a log and a status store that can be told to fail.

mod support;

mod auth;
mod batch;
mod documentation;
mod drain;
mod faults;
mod hostile;
mod idempotency;
mod input;
mod late_rows;
mod queries;
