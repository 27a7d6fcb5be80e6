//! The ways of breaking HTTP that a fault can ask for. `connection` does them.

use serde_json::Value;

/// Breaking HTTP rather than answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdeed {
    /// Never answers.
    Hang,
    /// Resets the connection when the head was read; keeps nothing.
    ResetBeforeReading,
    /// Reads and keeps the request, then resets.
    ResetAfterReading,
    /// Promises more body than it sends.
    Truncate,
    /// Answers with bytes that are not HTTP.
    Garbage,
    EndlessHead,
    EndlessBody,
    /// A byte a second, from the first of the head.
    Drip,
}

impl Misdeed {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::ResetBeforeReading => "reset_before_reading",
            Self::ResetAfterReading => "reset_after_reading",
            Self::Truncate => "truncate",
            Self::Garbage => "garbage",
            Self::EndlessHead => "endless_head",
            Self::EndlessBody => "endless_body",
            Self::Drip => "drip",
        }
    }

    /// Whether the client gets a whole head and thus a status.
    pub fn shows_status(self) -> bool {
        match self {
            Self::Truncate | Self::EndlessBody => true,
            Self::Hang | Self::ResetBeforeReading | Self::ResetAfterReading => false,
            Self::Garbage | Self::EndlessHead | Self::Drip => false,
        }
    }

    /// As a fault's field and its value.
    pub fn field(self) -> (&'static str, Value) {
        match self {
            Self::Hang => ("hang", Value::from(true)),
            Self::Truncate => ("truncate", Value::from(true)),
            Self::Garbage => ("garbage", Value::from(true)),
            Self::ResetBeforeReading => ("reset", Value::from("before_reading")),
            Self::ResetAfterReading => ("reset", Value::from("after_reading")),
            Self::EndlessHead => ("endless", Value::from("head")),
            Self::EndlessBody => ("endless", Value::from("body")),
            Self::Drip => ("endless", Value::from("drip")),
        }
    }
}
