//! The providers' HTTP as a connector meets it, and the callbacks as our api does.

#![allow(clippy::unwrap_used)] // clippy knows only `#[test]` functions as tests, not their helpers

mod callbacks;
mod inbound;
mod instagram;
mod support;
mod telegram;
mod whatsapp;
