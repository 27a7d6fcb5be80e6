//! The errors of the Bot API: each can be had with the chat ids `999…`.

use std::borrow::Cow;

use serde_json::json;

use crate::answer::{Answer, reason};

/// The chat that a group was upgraded to. It takes messages.
const UPGRADED_CHAT: i64 = -1_009_990_000_000;
/// Asked for where a table row or a fault says no other wait.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A refusal.
#[derive(Debug)]
pub struct BotError {
    /// The HTTP status is the same.
    pub error_code: u16,
    pub description: Cow<'static, str>,
    pub retry_after_seconds: Option<u64>,
    pub migrate_to_chat_id: Option<i64>,
}

/// Error code, the two digits that pick among its descriptions, description.
type Row = (u16, u16, &'static str);

const UPGRADED: Row = (400, 0, "Bad Request: group chat was upgraded to a supergroup chat");

#[rustfmt::skip] // a table
const ROWS: &[Row] = &[
    UPGRADED,
    (400, 1, "Bad Request: chat not found"),
    (400, 2, "Bad Request: user not found"),
    (400, 3, "Bad Request: PEER_ID_INVALID"),
    (400, 4, "Bad Request: group is deactivated"),
    (400, 5, "Bad Request: CHAT_WRITE_FORBIDDEN"),
    (400, 6, "Bad Request: have no rights to send a message"),
    (400, 7, "Bad Request: not enough rights to send text messages to the chat"),
    (400, 8, "Bad Request: can't parse entities: unsupported start tag at byte offset 0"),
    (400, 9, "Bad Request: message is too long"),
    (400, 10, "Bad Request: message text is empty"),
    (400, 11, "Bad Request: wrong file identifier/HTTP URL specified"),
    (400, 12, "Bad Request: failed to get HTTP URL content"),
    (400, 13, "Bad Request: BUTTON_URL_INVALID"),
    (401, 0, "Unauthorized"),
    (403, 0, "Forbidden: bot was blocked by the user"),
    (403, 1, "Forbidden: user is deactivated"),
    (403, 2, "Forbidden: bot was kicked from the group chat"),
    (403, 3, "Forbidden: bot is not a member of the channel chat"),
    (403, 4, "Forbidden: bot can't initiate conversation with a user"),
    (403, 5, "Forbidden: bot can't send messages to bots"),
    (404, 0, "Not Found"),
    (409, 0, "Conflict: terminated by other getUpdates request"),
    (413, 0, "Request Entity Too Large"),
    (429, 0, "Too Many Requests: retry after 1"),
    (500, 0, "Internal Server Error"),
    (502, 0, "Bad Gateway"),
];

impl BotError {
    pub fn new(error_code: u16, description: impl Into<Cow<'static, str>>) -> Self {
        Self { error_code, description: description.into(), retry_after_seconds: None, migrate_to_chat_id: None }
    }

    /// What the chat with this id is refused with: `999`, an error code and two digits. `None`: an ordinary chat.
    pub fn magic(chat: i64) -> Option<Self> {
        let (error_code, pick) = match chat {
            99_940_000..=99_959_999 => ((chat / 100 % 1_000) as u16, (chat % 100) as u16),
            _ => return None,
        };
        let row = ROWS.iter().find(|row| (row.0, row.1) == (error_code, pick));
        let Some(row) = row else {
            return Some(Self::new(error_code, format!("{}: UNKNOWN_{pick:02}", phrase(error_code))));
        };
        Some(Self {
            retry_after_seconds: (error_code == 429).then_some(RETRY_AFTER_SECONDS),
            migrate_to_chat_id: (*row == UPGRADED).then_some(UPGRADED_CHAT),
            ..Self::new(error_code, row.2)
        })
    }

    /// What a bare status stands for.
    pub fn of_status(status: u16, retry_after_seconds: Option<u64>) -> Self {
        if status != 429 {
            return Self { retry_after_seconds, ..Self::new(status, phrase(status)) };
        }
        let seconds = retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS);
        let description = format!("{}: retry after {seconds}", phrase(status));
        Self { retry_after_seconds: Some(seconds), ..Self::new(status, description) }
    }

    pub fn answer(&self) -> Answer {
        let mut body = json!({ "ok": false, "error_code": self.error_code, "description": self.description });
        if let Some(seconds) = self.retry_after_seconds {
            body["parameters"]["retry_after"] = seconds.into();
        }
        if let Some(chat) = self.migrate_to_chat_id {
            body["parameters"]["migrate_to_chat_id"] = chat.into();
        }
        let answer = Answer::json(self.error_code, &body);
        Answer { retry_after_seconds: self.retry_after_seconds, ..answer }
    }
}

/// Telegram's word for a status.
fn phrase(status: u16) -> &'static str {
    match status {
        413 => "Request Entity Too Large",
        _ => reason(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_chat() {
        let doc = include_str!("../../../../docs/SIMULATOR.md");
        for (error_code, pick, description) in ROWS {
            let row = format!("| `999{error_code}{pick:02}` | {description} |");
            assert!(doc.contains(&row), "{row}");
        }
    }

    #[test]
    fn only_whole_magic_ids_are_magic() {
        let check = |chat: i64, expected: Option<&str>| {
            assert_eq!(BotError::magic(chat).map(|error| error.description).as_deref(), expected, "{chat}");
        };
        check(99_940_301, Some("Forbidden: user is deactivated"));
        check(99_940_099, Some("Bad Request: UNKNOWN_99"));
        check(99_960_000, None);
        check(9_994_290, None);
        check(999_429_000, None);
        check(-99_942_900, None);
        check(UPGRADED_CHAT, None);
    }
}
