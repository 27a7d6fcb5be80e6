//! One write as a row holds it. Knows the writes, not the tables.

use chat4all_proto::envelope::V1;
use chat4all_proto::{Address, Content, Generation, Message, Outbound};
use chat4all_storage::status::rows::Rows;
use chat4all_storage::status::{Error, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use uuid::Uuid;

use crate::failure;

/// A write, and the tag that its content gives: a repeat has the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    pub(crate) tag: Uuid,
    pub(crate) kind: i8,
    pub(crate) body: String,
}

const MESSAGE: i8 = 1;
const EVENT: i8 = 2;
const RECEIPT: i8 = 3;
const DEAD_LETTER: i8 = 4;
const INBOUND: i8 = 5;

impl Fact {
    pub(crate) fn of(write: &Write) -> Self {
        match write {
            Write::Message(message) => Self::new(MESSAGE, &**message),
            Write::Event(event) => Self::new(EVENT, &**event),
            Write::Receipt(receipt) => Self::new(RECEIPT, &**receipt),
            Write::DeadLetter(letter) => Self::new(DEAD_LETTER, &**letter),
            Write::Inbound(inbound) => Self::new(INBOUND, &**inbound),
        }
    }

    /// A replay as a dead letter knows it: its address and generation. What was sent is in the letter.
    pub(crate) fn of_replay(message: &Message, address: &Address) -> Self {
        debug_assert!(message.generation > Generation(0), "a first way is no replay");
        let bare = Message {
            to: vec![address.clone()],
            content: Content::Text { text: String::new() },
            reply_to: None,
            metadata: Default::default(),
            instead_of: None,
            ..message.clone()
        };
        Self::new(MESSAGE, &bare)
    }

    /// What keeps a dead letter that was deleted out of listings: as if it had been replayed.
    pub(crate) fn of_discarded(letter: &Outbound) -> Self {
        let replay = Message {
            v: V1,
            tenant: letter.tenant.clone(),
            message_id: letter.message_id,
            conversation_id: letter.conversation_id.clone(),
            to: vec![letter.to.clone()],
            content: Content::Text { text: String::new() },
            reply_to: None,
            metadata: Default::default(),
            accepted_at: letter.accepted_at,
            expires_at: letter.expires_at,
            generation: Generation(letter.generation.0.saturating_add(1)),
            instead_of: None,
        };
        Self::new(MESSAGE, &replay)
    }

    fn new(kind: i8, value: &impl Serialize) -> Self {
        let body = serde_json::to_string(value).expect("wire types have text keys and no failing serializer");
        Self { tag: tag(body.as_bytes()), kind, body }
    }
}

/// Whether a fact of this kind is a dead letter itself.
pub(crate) fn is_dead_letter(kind: i8) -> bool {
    kind == DEAD_LETTER
}

/// The merged rows of some facts, in any order.
pub(crate) fn merged(facts: Vec<(i8, String)>) -> Result<Rows, Error> {
    let mut rows = Rows::default();
    for (kind, body) in facts {
        rows.apply(&read(kind, &body)?);
    }
    Ok(rows)
}

fn read(kind: i8, body: &str) -> Result<Write, Error> {
    Ok(match kind {
        MESSAGE => Write::Message(parse(body)?),
        EVENT => Write::Event(parse(body)?),
        RECEIPT => Write::Receipt(parse(body)?),
        DEAD_LETTER => Write::DeadLetter(parse(body)?),
        INBOUND => Write::Inbound(parse(body)?),
        other => return Err(failure::unreadable(format!("kind `{other}` is of a later version"))),
    })
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<Arc<T>, Error> {
    serde_json::from_str(body).map(Arc::new).map_err(failure::unreadable)
}

/// 122 bits of SHA-1: different contents never share one.
pub(crate) fn tag(content: &[u8]) -> Uuid {
    Uuid::new_v5(&Uuid::nil(), content)
}
