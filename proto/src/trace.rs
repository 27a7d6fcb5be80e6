//! W3C Trace Context: which trace something belongs to, as the header `traceparent` says it. Records carry it as text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::MessageId;

/// Of a whole trace. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Of one span in its trace. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// A span as others refer to it. Prints as a `traceparent` of version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// Whether the trace's spans are recorded.
    pub is_sampled: bool,
}

impl TraceId {
    /// `None` for 0.
    pub fn new(id: u128) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The trace of a message whose sender named none: its UUID, so that whoever knows one knows the other.
    pub fn of(message: MessageId) -> Self {
        Self(message.as_uuid().as_u128().max(1))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether it is among a share of all traces, from 0 (none) to 1 (all). Depends on nothing but the id, and on all of
    /// it: an id that a client chose may be random in any of its parts.
    pub fn is_among(self, share: f64) -> bool {
        let mut mixed = (self.0 >> 64) as u64 ^ self.0 as u64;
        // The finish of SplitMix64.
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        share >= 1.0 || ((mixed >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

impl SpanId {
    /// `None` for 0.
    pub fn new(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl TraceContext {
    /// Reads a `traceparent`. `None` if it is malformed, which the standard has treated as absent: other characters than
    /// lower case digits, an id of 0, version `ff`, a wrong length. Of a later version what this one knows is read.
    pub fn parse(text: &str) -> Option<Self> {
        let head = text.as_bytes().get(..55)?;
        let [b'-', b'-', b'-'] = [head[2], head[35], head[52]] else { return None };
        let version = hex(&head[..2])?;
        let ends_well = match version {
            0 => text.len() == 55,
            0xff => false,
            _ => text.as_bytes().get(55).is_none_or(|&byte| byte == b'-'),
        };
        let trace_id = TraceId::new(hex(&head[3..35])?)?;
        let span_id = SpanId::new(hex(&head[36..52])? as u64)?;
        let flags = hex(&head[53..])?;
        ends_well.then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

/// `None` unless all of it is lower case hexadecimal; at most 32 digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("is no `traceparent`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_prints_the_same() {
        for text in [GOOD, "00-00000000000000000000000000000001-0000000000000001-00"] {
            assert_eq!(TraceContext::parse(text).expect(text).to_string(), text);
        }
        assert!(TraceContext::parse(GOOD).unwrap().is_sampled);
    }

    #[test]
    fn flags_and_fields_of_later_versions_are_passed_over() {
        let known = TraceContext::parse(GOOD);
        for (version, rest) in [("00", ""), ("01", ""), ("cc", "-what-the-future-will-be-like"), ("fe", "-")] {
            assert_eq!(TraceContext::parse(&format!("{version}{}{rest}", &GOOD[2..])), known, "{version} {rest}");
        }
        assert_eq!(TraceContext::parse(&GOOD.replace("-01", "-ff")), known);
        assert!(!TraceContext::parse(&GOOD.replace("-01", "-fe")).unwrap().is_sampled);
    }

    #[test]
    fn what_is_malformed_counts_as_absent() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-0",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_trace_of_a_message_is_its_uuid() {
        let message = MessageId::from_uuid(Uuid::from_u128(0x0193_4f0e_0000_7000_8000_0000_0000_0007));
        assert_eq!(TraceId::of(message).to_string(), "01934f0e000070008000000000000007");
    }

    #[test]
    fn a_share_of_the_traces_is_drawn_whatever_part_of_the_id_differs() {
        for shift in [0, 20, 64, 90] {
            for share in [0.0, 0.01, 0.3, 1.0] {
                let drawn = (1..=100_000_u128).filter(|n| TraceId((n << shift) | 1 << 127).is_among(share)).count();
                let expected = share * 100_000.0;
                // Five standard deviations; none at 0 and 1.
                let off_max = 5.0 * (expected * (1.0 - share)).sqrt();
                assert!((drawn as f64 - expected).abs() <= off_max, "{drawn} of 100,000 at {share} << {shift}");
            }
        }
    }
}
