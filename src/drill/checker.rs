//! Judges a drill by what the client was answered and what the receiver answered, and by nothing that Chat4All says of
//! itself. A pure function; its tests hold it against a ledger with each kind of fault.

use std::collections::{HashMap, HashSet};

use chat4all_proto::MessageId;

/// A message answered 202.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    pub id: MessageId,
    pub conversation: u32,
}

/// A request that the receiver answered 2xx.
#[derive(Debug, Clone)]
pub struct Taken {
    pub id: MessageId,
    /// The same in every attempt, where the channel sends one.
    pub delivery: Option<String>,
}

/// What is wrong, and how many repeats there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Accepted and never taken.
    pub lost: Vec<MessageId>,
    /// Taken for the first time after a message of their conversation that was accepted later.
    pub reordered: Vec<MessageId>,
    /// Taken, but never accepted, or under a second delivery id: nobody could drop such a repeat.
    pub strange: Vec<MessageId>,
    /// Second and further 2xx.
    pub duplicates: usize,
}

/// `accepted` in the order of the 202s within each conversation, `taken` in the order of the answers. Each conversation
/// has one address.
pub fn judge(accepted: &[Accepted], taken: &[Taken]) -> Findings {
    let mut findings = Findings::default();
    let known: HashSet<MessageId> = accepted.iter().map(|accepted| accepted.id).collect();
    let mut first: HashMap<MessageId, (usize, Option<&str>)> = HashMap::new();
    for (place, taken) in taken.iter().enumerate() {
        if !known.contains(&taken.id) {
            findings.strange.push(taken.id);
            continue;
        }
        let delivery = taken.delivery.as_deref();
        match first.get(&taken.id) {
            None => drop(first.insert(taken.id, (place, delivery))),
            Some((_, before)) if *before != delivery => findings.strange.push(taken.id),
            Some(_) => findings.duplicates += 1,
        }
    }
    // From the last to the first: whoever was taken after one that was accepted later was overtaken.
    let mut earliest_later: HashMap<u32, usize> = HashMap::new();
    for Accepted { id, conversation } in accepted.iter().rev() {
        let Some(&(place, _)) = first.get(id) else {
            findings.lost.push(*id);
            continue;
        };
        let earliest = earliest_later.entry(*conversation).or_insert(place);
        if place > *earliest {
            findings.reordered.push(*id);
        }
        *earliest = (*earliest).min(place);
    }
    findings.lost.reverse();
    findings.reordered.reverse();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> MessageId {
        MessageId::from_idempotency_key(&Default::default(), name)
    }

    fn ids(names: &[&str]) -> Vec<MessageId> {
        names.iter().map(|name| id(name)).collect()
    }

    /// Accepted are a1 b1 a2 b2 a3 of the conversations a and b; `taken` came in that order.
    fn check(taken: &[&str], lost: &[&str], reordered: &[&str], strange: &[&str], duplicates: usize) {
        let accepted = ["a1", "b1", "a2", "b2", "a3"]
            .map(|name| Accepted { id: id(name), conversation: u32::from(name.as_bytes()[0]) });
        let taken: Vec<Taken> = taken
            .iter()
            .map(|name| {
                let (name, again) = name.split_once('/').unwrap_or((name, ""));
                Taken { id: id(name), delivery: Some(format!("dlv-{name}{again}")) }
            })
            .collect();
        let expected = Findings { lost: ids(lost), reordered: ids(reordered), strange: ids(strange), duplicates };
        assert_eq!(judge(&accepted, &taken), expected, "{taken:?}");
    }

    #[test]
    fn a_right_ledger_is_clean_and_conversations_need_not_wait_for_each_other() {
        check(&["a1", "b1", "a2", "b2", "a3"], &[], &[], &[], 0);
        check(&["b1", "b2", "a1", "a2", "a3"], &[], &[], &[], 0);
    }

    #[test]
    fn a_lost_message_is_found() {
        check(&["a1", "b1", "a2", "a3"], &["b2"], &[], &[], 0);
        check(&[], &["a1", "b1", "a2", "b2", "a3"], &[], &[], 0);
    }

    #[test]
    fn a_reordered_message_is_found_whoever_is_lost_beside_it() {
        check(&["a1", "b1", "a3", "b2", "a2"], &[], &["a2"], &[], 0);
        check(&["b1", "b2", "a3", "a2", "a1"], &[], &["a1", "a2"], &[], 0);
        check(&["a3", "b1", "a1", "b2"], &["a2"], &["a1"], &[], 0);
    }

    #[test]
    fn a_doubled_message_is_counted_and_order_is_judged_by_the_first() {
        check(&["a1", "b1", "a2", "b2", "a3", "a1"], &[], &[], &[], 1);
        check(&["a1", "a1", "a1", "b1", "a2", "b2", "a3"], &[], &[], &[], 2);
    }

    #[test]
    fn what_was_never_accepted_or_has_a_second_delivery_id_is_strange() {
        check(&["a1", "b1", "a2", "c1", "b2", "a3"], &[], &[], &["c1"], 0);
        check(&["a1", "a1/again", "b1", "a2", "b2", "a3"], &[], &[], &["a1"], 0);
    }
}
