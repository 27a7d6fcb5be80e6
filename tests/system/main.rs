//! Whole-system tests: real processes, real files, real kills. One binary, so that it is linked once.
//!
//! `CHAT4ALL_LONG=1` runs the long forms; `CHAT4ALL_SEED=n` replays the chance of a test; `CHAT4ALL_KEEP=1` keeps the
//! folder of a test that failed. Build with the feature `failpoints` to have the tests of panics.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end with a panic anywhere")]

mod api_killed;
mod bad_input;
mod bad_surroundings;
mod channels;
mod checker;
mod commands;
mod compose;
mod cost;
mod crash_matrix;
mod dead_letter_desk;
mod destination_away;
mod doctor;
mod drill;
mod engine_logins;
mod failover;
mod failover_story;
mod full_disk;
mod harness;
mod hostile_client;
mod idle;
mod isolation;
mod k6;
mod licences;
mod limits;
mod metrics;
mod monitoring;
mod never_404;
mod operator;
mod operator_holds;
mod oracles;
mod outages;
mod panics;
mod power_cut;
mod process_killed;
mod provider_faults;
mod provider_outage;
mod recovery;
mod rolling;
mod secrets;
mod stopped_writer;
mod takeover;
mod traces;
mod zombie;
