//! What one attempt came to. Channels classify a provider's answer into this; the engine alone decides what follows.

use std::time::Duration;

use crate::envelope::OutcomeKind;

/// One model for every provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took the message, and gave it this id if it gives any.
    Accepted { provider_id: Option<String> },
    /// Told to slow down; nothing was sent. Not counted as an attempt.
    Throttled { after: Option<Duration>, scope: Scope },
    /// May go better later: a 5xx, no connection. Where the provider is known to seldom change its mind, `attempts_max`
    /// bounds the attempts below what the channel allows.
    Transient { after: Option<Duration>, attempts_max: Option<u32> },
    /// The request left us and the answer was lost: it may have been taken.
    Ambiguous,
    /// This recipient will never be reached.
    RecipientGone,
    /// This message will never be taken.
    MessageRejected,
    /// Our own account is at fault: credentials, rights, payment. Keep the message. Not counted as an attempt.
    AccountProblem,
}

impl Outcome {
    /// Transient without more to say.
    pub const TRANSIENT: Outcome = Outcome::Transient { after: None, attempts_max: None };

    pub const fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::Accepted { .. } => OutcomeKind::Accepted,
            Outcome::Throttled { .. } => OutcomeKind::Throttled,
            Outcome::Transient { .. } => OutcomeKind::Transient,
            Outcome::Ambiguous => OutcomeKind::Ambiguous,
            Outcome::RecipientGone => OutcomeKind::RecipientGone,
            Outcome::MessageRejected => OutcomeKind::MessageRejected,
            Outcome::AccountProblem => OutcomeKind::AccountProblem,
        }
    }
}

/// Who was told to slow down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that goes to this provider, or to this destination where the channel has many.
    Account,
    /// What goes to this recipient.
    Recipient,
    /// The provider does not say: this recipient, and if it goes on with a second one, the account.
    Unsaid,
}

/// An outcome with what the attempt's record says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub outcome: Outcome,
    /// The provider's error code, else the HTTP status, else none: no answer came.
    pub code: Option<String>,
    /// Our own words, free of secrets and of the provider's text. None for a plain success.
    pub detail: Option<String>,
    /// Whether the provider gave a code that its table does not have: counted, so that new codes are noticed.
    pub code_is_unknown: bool,
    /// Whether it looks as if nobody were there: no connection, no answer, a gateway's 502, 503 or 504.
    pub outage_like: bool,
}

impl Report {
    /// A report on what no table of codes has a say in.
    pub fn new(outcome: Outcome, code: Option<String>, detail: Option<String>) -> Self {
        Self { outcome, code, detail, code_is_unknown: false, outage_like: false }
    }
}
