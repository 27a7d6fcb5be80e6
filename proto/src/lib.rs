//! The contract every part of Chat4All is built against: ids, addresses, content, envelopes, statuses, topics and
//! HTTP bodies. Serde only: no I/O, no clock, no randomness. Whatever crosses a process border is defined here, carries
//! a version tag and is guarded by a golden file under `proto/golden/`.

pub mod address;
pub mod content;
pub mod control;
pub mod envelope;
pub mod http;
pub mod ids;
pub mod inbound;
pub mod outcome;
pub mod progress;
pub mod receipt;
pub mod status;
pub mod time;
pub mod topic;
pub mod trace;
pub mod window;

pub use address::Address;
pub use content::Content;
pub use control::ControlKey;
pub use envelope::{DeadLetter, Message, Outbound, Parked, StatusEvent};
pub use ids::{ChannelName, ConversationId, DeliveryId, Generation, MessageId, TenantId};
pub use inbound::Inbound;
pub use outcome::Outcome;
pub use receipt::{Receipt, StatusUpdate};
pub use status::{DeliveryStatus, MessageStatus};
pub use time::Timestamp;
pub use topic::{Key, Topic, TopicPartition};
pub use trace::{TraceContext, TraceId};
