//! What Telegram refuses with, as data. Its `error_code` is little more than an HTTP status, so that the beginning of
//! the description decides: the one provider text we go by, and never repeat.

use std::ops::RangeInclusive;

use chat4all_proto::outcome::Scope;

use crate::codes::Class;

/// What `error_code` may be; anything else there is not taken for one.
pub(super) const ERROR_CODES: RangeInclusive<u16> = 400..=599;

/// A row of the table.
pub(super) struct Refusal {
    error_codes: &'static [u16],
    /// In lower case and without what [`PREFIXES`] holds. None: the row stands for every description.
    beginnings: &'static [&'static str],
    pub(super) class: Class,
    /// Our name for it.
    pub(super) word: &'static str,
    /// Our own words for people who look at an attempt.
    pub(super) detail: &'static str,
}

const fn row(
    error_codes: &'static [u16],
    beginnings: &'static [&'static str],
    class: Class,
    word: &'static str,
    detail: &'static str,
) -> Refusal {
    Refusal { error_codes, beginnings, class, word, detail }
}

/// The names of statuses that descriptions begin with, in lower case.
const PREFIXES: [&str; 2] = ["bad request: ", "forbidden: "];

const THROTTLED: Class = Class::Throttled { wait_secs: 0, scope: Scope::Unsaid };
const TRANSIENT: Class = Class::Transient { wait_secs: 0 };

#[rustfmt::skip]
static REFUSALS: &[Refusal] = &[
    row(&[429], &["too many requests"], THROTTLED, "throttled", "asked to slow down"),
    row(&[500, 502, 503, 504], &[], TRANSIENT, "server", "the Bot API server is in trouble"),

    row(&[401], &["unauthorized"], Class::AccountProblem, "token", "the bot token is not good"),
    row(&[404], &["not found"], Class::AccountProblem, "token", "the bot token is not good, or `base_url` is wrong"),
    row(&[421], &["misdirected request"], Class::AccountProblem, "token", "this Bot API server does not serve the bot"),
    row(&[400], &["logged out"], Class::AccountProblem, "logged_out", "the bot has logged out of this Bot API server"),
    row(&[409], &["conflict"], Class::AccountProblem, "conflict", "the bot both polls and has a webhook"),

    row(&[403], &["bot was blocked"], Class::RecipientGone, "blocked", "the user has blocked the bot"),
    row(&[403], &["user is deactivated"], Class::RecipientGone, "deactivated", "the user's account is deactivated"),
    row(&[403], &["bot was kicked"], Class::RecipientGone, "kicked", "the bot was removed from the chat"),
    row(&[403], &["bot is not a member"], Class::RecipientGone, "not_member", "the bot is not in the chat"),
    row(&[403], &["bot can't initiate conversation", "can't initiate conversation"], Class::RecipientGone,
        "not_started", "the user has never written to the bot"),
    row(&[403], &["bot can't send messages to bots", "bots can't send messages to bots", "can't send messages to bots"],
        Class::RecipientGone, "is_bot", "the recipient is a bot"),
    row(&[403], &["the group chat was deleted"], Class::RecipientGone, "deleted", "the group was deleted"),

    row(&[400], &["chat not found"], Class::RecipientGone, "chat_not_found", "there is no such chat"),
    row(&[400], &["user not found", "private chat not found"], Class::RecipientGone,
        "user_not_found", "there is no such user"),
    row(&[400], &["peer_id_invalid"], Class::RecipientGone, "peer_id_invalid", "the bot does not know this chat"),
    row(&[400], &["group is deactivated"], Class::RecipientGone, "deactivated", "the group is deactivated"),
    row(&[400], &["group chat was upgraded"], Class::RecipientGone, "moved", "the group has another id now"),
    row(&[400], &["chat_write_forbidden", "have no write access", "have no rights to send", "not enough rights",
        "need administrator rights"], Class::RecipientGone, "no_rights", "the bot may not write to the chat"),

    row(&[400], &["can't parse entities"], Class::MessageRejected, "entities", "the markup cannot be read"),
    row(&[400], &["message is too long", "message_too_long", "text is too long", "message caption is too long",
        "media_caption_too_long"], Class::MessageRejected, "too_long", "the text is too long"),
    row(&[400], &["message text is empty", "text is empty", "text must be non-empty"], Class::MessageRejected,
        "empty", "the text is empty"),
    row(&[400], &["wrong file identifier", "wrong remote file identifier", "wrong http url",
        "failed to get http url content", "wrong type of the web page content", "can't upload file by url",
        "file is too big", "image_process_failed", "photo_invalid_dimensions"], Class::MessageRejected,
        "media", "Telegram could not fetch the media, or cannot use it"),
    row(&[400], &["button_url_invalid", "button_data_invalid", "reply markup is too long",
        "can't parse inline keyboard button"], Class::MessageRejected, "button", "a button is not as it must be"),
    row(&[400], &["message to be replied not found", "replied message not found", "reply message not found"],
        Class::MessageRejected, "reply_to", "there is no such message to reply to"),
    row(&[413], &[], Class::MessageRejected, "too_large", "the request is too large"),
];

/// The row for an answer.
pub(super) fn find(error_code: u16, description: &str) -> Option<&'static Refusal> {
    let description = description.to_lowercase();
    let text = PREFIXES.iter().find_map(|prefix| description.strip_prefix(prefix)).unwrap_or(&description);
    let fits = |row: &&Refusal| {
        row.error_codes.contains(&error_code)
            && (row.beginnings.is_empty() || row.beginnings.iter().any(|beginning| text.starts_with(beginning)))
    };
    REFUSALS.iter().find(fits)
}

/// What an answer without a row is taken for.
pub(super) fn class_of_unknown(error_code: u16) -> Class {
    match error_code {
        401 | 404 => Class::AccountProblem,
        429 => THROTTLED,
        400..=499 => Class::MessageRejected,
        _ => TRANSIENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_form_that_answers_are_compared_in() {
        for row in REFUSALS {
            assert!(row.error_codes.iter().all(|code| ERROR_CODES.contains(code)), "{}", row.word);
            assert!(row.word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", row.word);
            for beginning in row.beginnings {
                assert_eq!(*beginning, beginning.to_lowercase());
                assert!(!PREFIXES.iter().any(|prefix| beginning.starts_with(prefix)), "{beginning}");
            }
        }
    }

    #[test]
    fn no_beginning_hides_another() {
        for row in REFUSALS {
            for (code, beginning) in
                row.error_codes.iter().flat_map(|code| row.beginnings.iter().map(move |it| (code, it)))
            {
                let found = find(*code, beginning).map(|found| found.word);
                assert_eq!(found, Some(row.word), "{code} {beginning}");
            }
        }
    }
}
