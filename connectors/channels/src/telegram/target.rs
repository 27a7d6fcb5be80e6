//! Which targets a Telegram address may name.

use serde::Serialize;

use crate::Unfit;

/// Where a message goes. Serialised as `chat_id` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Chat<'a> {
    /// A person (positive), or a group, supergroup or channel (negative).
    Id(i64),
    /// A public chat, with its `@`.
    Name(&'a str),
}

/// Reads the target of an address.
pub(super) fn parse(target: &str) -> Result<Chat<'_>, Unfit> {
    let chat = match target.strip_prefix('@') {
        Some(name) => is_name(name).then_some(Chat::Name(target)),
        None => chat_id(target).map(Chat::Id),
    };
    chat.ok_or_else(|| {
        Unfit::new(
            "to",
            "a Telegram target must be a chat id (a whole number, perhaps negative) or `@` and 5 to 32 of A-Z, a-z, \
             0-9 and `_`",
        )
    })
}

/// Reads an id in its one spelling, so that a chat has one address.
pub(super) fn chat_id(text: &str) -> Option<i64> {
    text.parse().ok().filter(|&id: &i64| id != 0 && id.to_string() == text)
}

fn is_name(text: &str) -> bool {
    (5..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, expected: Option<Chat<'_>>) {
        match parse(target) {
            Ok(chat) => assert_eq!(Some(chat), expected, "{target}"),
            Err(unfit) => assert!(expected.is_none() && unfit.field == "to" && !unfit.detail.is_empty(), "{target}"),
        }
    }

    #[test]
    fn a_target_is_a_chat_id_or_a_public_name() {
        check("42", Some(Chat::Id(42)));
        check("-1001234567890", Some(Chat::Id(-1_001_234_567_890)));
        check("@abcde", Some(Chat::Name("@abcde")));
        check("@News_2026", Some(Chat::Name("@News_2026")));
        let longest = format!("@{}", "a".repeat(32));
        check(&longest, Some(Chat::Name(&longest)));
        check(&format!("{longest}a"), None);
        for bad in
            ["", "0", "-0", "+42", "007", "4.2", " 42", "ana", "-", "@", "@abcd", "@ab-cd", "@é€é", "+5562996991812"]
        {
            check(bad, None);
        }
        check("9223372036854775808", None);
    }
}
