//! What the channels on Meta's Graph API share: the account and its requests, the error body and its codes, the
//! handshake, signature and envelope of callbacks, and how lengths and links are checked. Called by `whatsapp` and
//! `instagram`; must not know what either of them sends or is told.

pub(crate) mod account;
mod codes;
pub(crate) mod envelope;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod graph;
mod handshake;
mod hex;
pub(crate) mod limits;
pub(crate) mod media;
mod signature;

pub(crate) use self::account::Account;
