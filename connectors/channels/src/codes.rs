//! Error codes as data: a provider's folder has one table of them in `codes.rs`.

use std::time::Duration;

use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::outcome::{Outcome, Scope};

/// What a code says about the message, the recipient or our account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wait, at least so many seconds: no attempt is burnt.
    Throttled {
        wait_secs: u64,
        scope: Scope,
    },
    /// Try again, after at least so many seconds.
    Transient {
        wait_secs: u64,
    },
    /// Try again, but seldom with another result: this many attempts in all.
    TransientAtMost {
        attempts: u32,
    },
    RecipientGone,
    MessageRejected,
    AccountProblem,
}

/// A row of a provider's table.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// The codes it is about: from, to.
    pub codes: (i64, i64),
    /// Where a provider has them, the subcode that this row is about; a row without stands for all others.
    pub subcode: Option<i64>,
    pub class: Class,
    /// Our own words for people who look at an attempt.
    pub detail: &'static str,
}

impl Code {
    pub const fn new(code: i64, class: Class, detail: &'static str) -> Self {
        Self { codes: (code, code), subcode: None, class, detail }
    }

    pub const fn with_subcode(code: i64, subcode: i64, class: Class, detail: &'static str) -> Self {
        Self { codes: (code, code), subcode: Some(subcode), class, detail }
    }

    pub const fn range(codes: (i64, i64), class: Class, detail: &'static str) -> Self {
        Self { codes, subcode: None, class, detail }
    }
}

impl Class {
    /// As an outcome; what the provider itself asked us to wait counts if it is longer.
    pub fn outcome(self, asked: Option<Duration>) -> Outcome {
        let after = |wait_secs: u64| asked.max((wait_secs > 0).then(|| Duration::from_secs(wait_secs)));
        match self {
            Self::Throttled { wait_secs, scope } => Outcome::Throttled { after: after(wait_secs), scope },
            Self::Transient { wait_secs } => Outcome::Transient { after: after(wait_secs), attempts_max: None },
            Self::TransientAtMost { attempts } => Outcome::Transient { after: asked, attempts_max: Some(attempts) },
            Self::RecipientGone => Outcome::RecipientGone,
            Self::MessageRejected => Outcome::MessageRejected,
            Self::AccountProblem => Outcome::AccountProblem,
        }
    }

    pub fn kind(self) -> OutcomeKind {
        self.outcome(None).kind()
    }
}

/// Whether a failure with this status looks like an outage: a gateway found nobody behind it.
pub fn is_outage_like(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// The row for a code, the one with its subcode first.
pub fn find(table: &'static [Code], code: i64, subcode: Option<i64>) -> Option<&'static Code> {
    let of_code = || table.iter().filter(|row| (row.codes.0..=row.codes.1).contains(&code));
    let exact = of_code().find(|row| row.subcode.is_some() && row.subcode == subcode);
    exact.or_else(|| of_code().find(|row| row.subcode.is_none()))
}
