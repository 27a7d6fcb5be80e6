//! The log port on Apache Kafka. Opened by the binary, used through the port.
//!
//! A process writes through idempotent producers (`producer`) whose delivery reports answer its appends. Each membership
//! has a thread of its own that polls (`poll`), obeys the group's rebalances (`rebalance`) and hands events on, and one
//! that commits (`commit`). Beside the port's topics there is one of our own (`cluster`): who is there, and who took
//! which partition when. The offset of that last note is the epoch of the assignment, so that epochs rise across
//! processes without anybody's clock.
//!
//! Kafka keeps none of the port's `Guarantees`: `once` is left to whoever reads, retention goes by time alone, and a
//! lease is checked right before the records are handed to the producer, whose epoch they carry as a header.

mod admin;
mod client;
mod cluster;
mod commit;
mod consumer;
mod doctor;
mod latest;
mod log;
pub mod metrics;
mod options;
mod outbox;
mod poll;
mod producer;
mod read;
mod rebalance;
mod record;
mod shared;
mod topics;
mod watchdog;

pub use self::doctor::examine;
pub use self::log::KafkaLog;
pub use self::options::{Mechanism, Options, Sasl, Tls};
