//! The API over real HTTP, against a log and a status store that can be told to fail.

#![allow(clippy::unwrap_used, reason = "clippy takes the helpers of an integration test for other code")]

mod support;

mod auth;
mod batch;
mod callbacks;
mod cancel;
mod channels;
mod claims;
mod dead_letters;
mod documentation;
mod drain;
mod faults;
mod hostile;
mod idempotency;
mod input;
mod late_rows;
mod processes;
mod queries;
