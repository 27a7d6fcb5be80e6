//! The ids that the providers give. None comes twice, not even after a restart, but for Telegram's message ids: those
//! begin at 1 in every chat.

use std::collections::HashMap;

use chat4all_proto::Timestamp;

/// Chats counted one by one.
const CHATS_MAX: usize = 100_000;

pub struct Ids {
    started_ms: u64,
    next: u64,
    update: u64,
    /// The last message id in each chat.
    chats: HashMap<i64, u64>,
    /// The last message id that a chat not in `chats` may have had.
    floor: u64,
}

impl Ids {
    pub fn new(now: Timestamp) -> Self {
        Self { started_ms: now.as_millis(), next: 0, update: now.as_millis(), chats: HashMap::new(), floor: 0 }
    }

    /// 24 hexadecimal digits.
    pub fn unique(&mut self) -> String {
        self.next += 1;
        format!("{:012X}{:012X}", self.started_ms, self.next)
    }

    /// Telegram's next message id in a chat.
    pub fn message(&mut self, chat: i64) -> u64 {
        if self.chats.len() == CHATS_MAX && !self.chats.contains_key(&chat) {
            self.floor = self.chats.values().copied().max().unwrap_or_default();
            self.chats.clear();
        }
        let last = self.chats.entry(chat).or_insert(self.floor);
        *last += 1;
        *last
    }

    /// Telegram's next update id.
    pub fn update(&mut self) -> u64 {
        self.update += 1;
        self.update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_count_for_themselves_and_no_id_comes_twice_when_they_are_forgotten() {
        let mut ids = Ids::new(Timestamp::from_millis(1));
        assert_eq!([ids.message(7), ids.message(7), ids.message(8)], [1, 2, 1]);
        for chat in 100..100 + CHATS_MAX as i64 {
            ids.message(chat);
        }
        assert!(ids.chats.len() <= CHATS_MAX);
        assert_eq!([ids.message(7), ids.message(7)], [3, 4]);
    }
}
