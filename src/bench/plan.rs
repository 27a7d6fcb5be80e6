//! Which message says what, derived from its number alone, so that sender and receiver need not talk to each other.

/// How fast to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each connection sends the next message when the last is answered.
    Closed,
    /// As `Closed`, many messages a request.
    Batches { messages: u32 },
    /// Each message has its moment, kept or not.
    Open { per_second: u32 },
}

/// Messages 0 to `messages - 1`. Message `n` is the (n / connections)th of connection `n % connections`; each
/// conversation belongs to one connection, which sends one request at a time: its order is the order of acceptance.
#[derive(Debug, Clone)]
pub struct Plan {
    pub messages: u32,
    pub connections: u32,
    pub conversations: u32,
    pub text: String,
    pub pace: Pace,
}

impl Plan {
    pub fn new(messages: u32, connections: u32, conversations: u32, text_bytes: usize, pace: Pace) -> Self {
        let connections = connections.min(conversations).min(messages);
        Self { messages, connections, conversations, text: "x".repeat(text_bytes.max(1)), pace }
    }

    /// The numbers of the messages that `connection` sends, in order.
    pub fn share(&self, connection: u32) -> impl Iterator<Item = u32> + use<> {
        (connection..self.messages).step_by(self.connections as usize)
    }

    /// The conversation of message `n`, and its place there from 0.
    pub fn place(&self, n: u32) -> (u32, u32) {
        let (connection, index) = (n % self.connections, n / self.connections);
        let conversations = (self.conversations - connection).div_ceil(self.connections);
        (connection + self.connections * (index % conversations), index / conversations)
    }

    /// The body of message `n` as the API takes it.
    pub fn body(&self, n: u32, target: &str) -> String {
        let (conversation, _) = self.place(n);
        let text = &self.text;
        format!(
            r#"{{"to":["{target}/{conversation}"],"conversation_id":"bench-{conversation}","content":{{"type":"text","text":"{text}"}},"metadata":{{"n":{n}}}}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn check(messages: u32, connections: u32, conversations: u32) {
        let plan = Plan::new(messages, connections, conversations, 8, Pace::Closed);
        let mut next: HashMap<u32, u32> = HashMap::new();
        let mut owner: HashMap<u32, u32> = HashMap::new();
        let mut count = 0;
        for connection in 0..plan.connections {
            for n in plan.share(connection) {
                let (conversation, sequence) = plan.place(n);
                assert!(conversation < conversations);
                assert_eq!(*owner.entry(conversation).or_insert(connection), connection);
                let expected = next.entry(conversation).or_default();
                assert_eq!(sequence, *expected, "message {n}");
                *expected += 1;
                count += 1;
            }
        }
        assert_eq!(count, messages);
        assert_eq!(next.len() as u32, conversations.min(messages));
    }

    #[test]
    fn every_message_has_one_place_and_every_conversation_one_connection() {
        check(5_000, 64, 1_000);
        check(10, 64, 3);
        check(1_000, 4, 1_000);
        check(7, 1, 1);
    }
}
