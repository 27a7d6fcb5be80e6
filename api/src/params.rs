//! Query parameters: each call takes the ones it knows, once, and refuses the others by name.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use chat4all_proto::Timestamp;
use chat4all_storage::status::PageRequest;
use url::form_urlencoded;

use crate::error::Error;

/// Messages on a page, unless the client says otherwise, and at most.
pub const LIMIT_DEFAULT: usize = 50;
pub const LIMIT_MAX: usize = 200;

/// The parameters of one request.
pub struct Params<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Params<'a> {
    /// Reads a query string. A parameter that is not in `known`, or that comes twice, is refused.
    pub fn read(query: &'a str, known: &[&str]) -> Result<Self, Error> {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        if query.is_empty() {
            return Ok(Self { pairs });
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => "this call takes no parameters".to_owned(),
                    known => format!("this call takes {}", known.join(", ")),
                };
                return Err(Error::parameter(shortened(&name), detail));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Error::parameter(name, "is given twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_ref())
    }

    /// A parameter that is read by its type's own parser.
    pub fn parsed<T>(&self, name: &str) -> Result<Option<T>, Error>
    where
        T: FromStr<Err: Display>,
    {
        self.get(name).map(str::parse).transpose().map_err(|error: T::Err| Error::parameter(name, error.to_string()))
    }

    /// An RFC 3339 time.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let read = |text| {
            Timestamp::parse_rfc3339(text)
                .ok_or_else(|| Error::parameter(name, "must be a time like `2026-11-21T22:33:44Z`"))
        };
        self.get(name).map(read).transpose()
    }

    /// `limit` and `cursor`.
    pub fn page(&self) -> Result<PageRequest, Error> {
        let limit = match self.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| Error::parameter("limit", format!("must be a number from 1 to {LIMIT_MAX}")))?,
        };
        Ok(PageRequest { limit, cursor: self.get("cursor").map(str::to_owned) })
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}
