//! What a fault is and how it is written: as a JSON object (`PUT /faults/…`) or as parameters of a target URL, with the
//! same names and values.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::misdeed::Misdeed;

const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Something to do to a delivery instead of answering 200.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    pub status: Option<u16>,
    /// Meta's error code and subcode that go with the status, on the paths that have such.
    pub code: Option<u32>,
    pub subcode: Option<u32>,
    pub retry_after: Option<Duration>,
    /// Waited before anything else.
    pub latency: Option<Duration>,
    pub misdeed: Option<Misdeed>,
    /// Requests it concerns; none: all.
    pub times: Option<u32>,
    /// How long it lasts, from when it is set.
    pub outage_for: Option<Duration>,
}

/// Why a text is not a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub field: String,
    pub detail: String,
}

impl Fault {
    pub fn from_json(body: &[u8]) -> Result<Self, Invalid> {
        let fields: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| invalid("body", format!("is not a JSON object: {error}")))?;
        let mut fault = Fault::default();
        for (name, value) in &fields {
            if !fault.set(name, value)? {
                return Err(invalid(name, format!("is not known; the fields are {FIELDS}")));
            }
        }
        match fault.complete()? {
            Some(fault) => Ok(fault),
            None => Err(invalid("body", format!("asks for no fault; the fields are {FIELDS}"))),
        }
    }

    /// `None` when the query asks for no fault. Parameters of other names belong to the target and mean nothing here.
    pub fn from_query(query: &str) -> Result<Option<Self>, Invalid> {
        let mut fault = Fault::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let value = match value {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                text => text.parse::<u64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
            };
            // In a target these two are likely to be the target's own, and no inbox has a use for them.
            if !matches!(name, "code" | "subcode") {
                fault.set(name, &value)?;
            }
        }
        fault.complete()
    }

    /// `false`: there is no such field.
    fn set(&mut self, name: &str, value: &Value) -> Result<bool, Invalid> {
        match name {
            "status" => self.status = Some(number(name, value, 200, 599)? as u16),
            "code" => self.code = Some(number(name, value, 0, u64::from(u32::MAX))? as u32),
            "subcode" => self.subcode = Some(number(name, value, 0, u64::from(u32::MAX))? as u32),
            "times" => self.times = Some(number(name, value, 1, u64::from(u32::MAX))? as u32),
            "retry_after" => self.retry_after = Some(duration(name, value)?),
            "latency" => self.latency = Some(duration(name, value)?),
            "outage_for" => self.outage_for = Some(duration(name, value)?),
            "hang" | "truncate" | "garbage" => match (value, name) {
                (Value::Bool(false), _) => {}
                (Value::Bool(true), "hang") => self.misbehave(name, Misdeed::Hang)?,
                (Value::Bool(true), "truncate") => self.misbehave(name, Misdeed::Truncate)?,
                (Value::Bool(true), _) => self.misbehave(name, Misdeed::Garbage)?,
                _ => return Err(invalid(name, "must be `true` or `false`".into())),
            },
            "reset" => match value.as_str() {
                Some("before_reading") => self.misbehave(name, Misdeed::ResetBeforeReading)?,
                Some("after_reading") => self.misbehave(name, Misdeed::ResetAfterReading)?,
                _ => return Err(invalid(name, "must be `before_reading` or `after_reading`".into())),
            },
            "endless" => match value.as_str() {
                Some("head") => self.misbehave(name, Misdeed::EndlessHead)?,
                Some("body") => self.misbehave(name, Misdeed::EndlessBody)?,
                Some("drip") => self.misbehave(name, Misdeed::Drip)?,
                _ => return Err(invalid(name, "must be `head`, `body` or `drip`".into())),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn misbehave(&mut self, name: &str, misdeed: Misdeed) -> Result<(), Invalid> {
        match self.misdeed.replace(misdeed) {
            None => Ok(()),
            Some(other) => Err(invalid(name, format!("cannot be had together with `{}`", other.as_str()))),
        }
    }

    /// Checks the fields against each other. An outage that says no more resets connections.
    fn complete(mut self) -> Result<Option<Self>, Invalid> {
        if self.retry_after.is_some() && self.status.is_none() {
            return Err(invalid("retry_after", "needs a `status` to go with, as 429 or 503".into()));
        }
        if self.code.is_some() && self.status.is_none() {
            return Err(invalid("code", "needs a `status` to go with, as 400".into()));
        }
        if self.subcode.is_some() && self.code.is_none() {
            return Err(invalid("subcode", "needs a `code` to go with".into()));
        }
        if self.status.is_some()
            && let Some(misdeed) = self.misdeed.filter(|misdeed| !misdeed.shows_status())
        {
            return Err(invalid("status", format!("is never seen with `{}`", misdeed.as_str())));
        }
        if self.status.is_some() || self.latency.is_some() || self.misdeed.is_some() {
            return Ok(Some(self));
        }
        if self.outage_for.is_some() {
            self.misdeed = Some(Misdeed::ResetBeforeReading);
            return Ok(Some(self));
        }
        match self.times {
            Some(_) => Err(invalid("times", "needs something to do so many times".into())),
            None => Ok(None),
        }
    }

    /// For the header `Retry-After`: rounded up.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_millis().div_ceil(1_000) as u64)
    }

    /// As `from_json` reads it.
    pub fn to_json(&self) -> Map<String, Value> {
        let text = |duration: Duration| Value::from(humantime::format_duration(duration).to_string());
        [
            self.status.map(|status| ("status", Value::from(status))),
            self.code.map(|code| ("code", Value::from(code))),
            self.subcode.map(|subcode| ("subcode", Value::from(subcode))),
            self.times.map(|times| ("times", Value::from(times))),
            self.retry_after.map(|wait| ("retry_after", text(wait))),
            self.latency.map(|wait| ("latency", text(wait))),
            self.misdeed.map(Misdeed::field),
            self.outage_for.map(|wait| ("outage_for", text(wait))),
        ]
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

const FIELDS: &str = "`status`, `code`, `subcode`, `times`, `retry_after`, `latency`, `hang`, `reset`, `truncate`, `garbage`, `endless`, `outage_for`";

fn invalid(field: &str, detail: String) -> Invalid {
    Invalid { field: field.to_owned(), detail: format!("`{field}` {detail}") }
}

fn number(name: &str, value: &Value, min: u64, max: u64) -> Result<u64, Invalid> {
    let number = value.as_u64().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| invalid(name, format!("must be a whole number from {min} to {max}")))
}

fn duration(name: &str, value: &Value) -> Result<Duration, Invalid> {
    let duration = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    let duration = duration.filter(|duration| *duration <= WAIT_MAX);
    duration.ok_or_else(|| invalid(name, "must be a duration of at most 24h, as `250ms` or `2s`".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<&str, (&str, &str)>) {
        match (Fault::from_json(json.as_bytes()), expected) {
            (Ok(fault), Ok(printed)) => {
                assert_eq!(serde_json::to_string(&fault.to_json()).unwrap(), printed, "{json}");
                assert_eq!(Fault::from_json(printed.as_bytes()), Ok(fault), "{json}");
            }
            (Err(error), Err((field, words))) => {
                assert_eq!(error.field, field, "{json}");
                assert!(error.detail.contains(words), "{json}: {}", error.detail);
            }
            (got, expected) => panic!("{json}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_fault_prints_as_it_is_written() {
        check(r#"{"status":500,"times":3}"#, Ok(r#"{"status":500,"times":3}"#));
        check(r#"{"status":429,"retry_after":"2s"}"#, Ok(r#"{"retry_after":"2s","status":429}"#));
        check(r#"{"status":400,"code":100,"subcode":33}"#, Ok(r#"{"code":100,"status":400,"subcode":33}"#));
        check(r#"{"latency":"100ms"}"#, Ok(r#"{"latency":"100ms"}"#));
        check(r#"{"hang":true,"truncate":false}"#, Ok(r#"{"hang":true}"#));
        check(r#"{"reset":"after_reading"}"#, Ok(r#"{"reset":"after_reading"}"#));
        check(r#"{"endless":"drip"}"#, Ok(r#"{"endless":"drip"}"#));
        check(r#"{"outage_for":"10s"}"#, Ok(r#"{"outage_for":"10s","reset":"before_reading"}"#));
        check(r#"{"outage_for":"10s","status":503}"#, Ok(r#"{"outage_for":"10s","status":503}"#));
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("nonsense", Err(("body", "JSON")));
        check("[]", Err(("body", "JSON")));
        check("{}", Err(("body", "no fault")));
        check(r#"{"staus":500}"#, Err(("staus", "`status`")));
        check(r#"{"status":"500"}"#, Err(("status", "whole number")));
        check(r#"{"status":100}"#, Err(("status", "from 200")));
        check(r#"{"status":500,"times":0}"#, Err(("times", "from 1")));
        check(r#"{"times":3}"#, Err(("times", "something to do")));
        check(r#"{"latency":5}"#, Err(("latency", "duration")));
        check(r#"{"latency":"25h"}"#, Err(("latency", "24h")));
        check(r#"{"retry_after":"2s"}"#, Err(("retry_after", "`status`")));
        check(r#"{"code":100}"#, Err(("code", "`status`")));
        check(r#"{"status":400,"code":-1}"#, Err(("code", "whole number")));
        check(r#"{"status":400,"subcode":33}"#, Err(("subcode", "`code`")));
        check(r#"{"hang":1}"#, Err(("hang", "`true`")));
        check(r#"{"reset":true}"#, Err(("reset", "`before_reading`")));
        check(r#"{"endless":"tail"}"#, Err(("endless", "`drip`")));
        check(r#"{"hang":true,"truncate":true}"#, Err(("truncate", "together")));
        check(r#"{"hang":true,"status":500}"#, Err(("status", "never seen")));
    }

    #[test]
    fn a_query_says_the_same_and_may_hold_other_parameters() {
        let fault = |json: &str| Some(Fault::from_json(json.as_bytes()).unwrap());
        assert_eq!(Fault::from_query("status=500&times=3"), Ok(fault(r#"{"status":500,"times":3}"#)));
        assert_eq!(Fault::from_query("key=1&hang"), Ok(fault(r#"{"hang":true}"#)));
        assert_eq!(Fault::from_query("endless=body"), Ok(fault(r#"{"endless":"body"}"#)));
        assert_eq!(Fault::from_query("key=1"), Ok(None));
        assert_eq!(Fault::from_query("code=abc&subcode=1"), Ok(None));
        assert_eq!(Fault::from_query(""), Ok(None));
        assert_eq!(Fault::from_query("status=often").unwrap_err().field, "status");
    }
}
