//! Which fault concerns a delivery, and how often it still does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use serde_json::{Map, Value};

use crate::fault::{Fault, Invalid};

/// Faults set by name, and URLs whose own fault is counted. Setting more is refused, or forgets the oldest URL.
const COUNT_MAX: usize = 10_000;

/// A fault with what is left of it.
#[derive(Debug)]
struct Active {
    fault: Fault,
    left: Option<u32>,
    until: Option<Instant>,
}

impl Active {
    fn new(fault: Fault, now: Instant) -> Self {
        Self { left: fault.times, until: fault.outage_for.map(|wait| now + wait), fault }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.left == Some(0) || self.until.is_some_and(|until| until <= now)
    }

    /// Takes one of what is left.
    fn hit(&mut self, now: Instant) -> Option<Fault> {
        if self.is_over(now) {
            return None;
        }
        self.left = self.left.map(|left| left - 1);
        Some(self.fault.clone())
    }
}

/// Every fault that was asked for. `name` is the path below `/inbox/`.
#[derive(Debug, Default)]
pub struct Faults {
    by_name: BTreeMap<String, Active>,
    /// Faults written into target URLs (path and query), once they were met: they must not start again.
    by_url: HashMap<String, Active>,
    /// Keys of `by_url`, the oldest first.
    urls: VecDeque<String>,
}

impl Faults {
    /// Replaces the fault of `name`. `false`: there are too many.
    pub fn set(&mut self, name: &str, fault: Fault, now: Instant) -> bool {
        self.by_name.retain(|_, active| !active.is_over(now));
        let room = self.by_name.len() < COUNT_MAX || self.by_name.contains_key(name);
        if room {
            self.by_name.insert(name.to_owned(), Active::new(fault, now));
        }
        room
    }

    /// Forgets the fault of `name`, or all; and what was counted for URLs with that path.
    pub fn clear(&mut self, name: Option<&str>) {
        let concerns = |other: &str| name.is_none_or(|name| name == other);
        self.by_name.retain(|other, _| !concerns(other));
        self.urls.retain(|url| !concerns(path_of(url)));
        self.by_url.retain(|url, _| !concerns(path_of(url)));
    }

    /// The fault that a delivery meets now. One set by name goes before one in the URL.
    pub fn meet(&mut self, name: &str, query: Option<&str>, now: Instant) -> Result<Option<Fault>, Invalid> {
        if let Some(active) = self.by_name.get_mut(name) {
            match active.hit(now) {
                Some(fault) => return Ok(Some(fault)),
                None => drop(self.by_name.remove(name)),
            }
        }
        match query {
            None => Ok(None),
            Some(query) => self.meet_in_url(name, query, now),
        }
    }

    fn meet_in_url(&mut self, name: &str, query: &str, now: Instant) -> Result<Option<Fault>, Invalid> {
        let Some(fault) = Fault::from_query(query)? else {
            return Ok(None);
        };
        if fault.times.is_none() && fault.outage_for.is_none() {
            return Ok(Some(fault));
        }
        let url = format!("{name}?{query}");
        if !self.by_url.contains_key(&url) {
            if self.urls.len() == COUNT_MAX
                && let Some(oldest) = self.urls.pop_front()
            {
                self.by_url.remove(&oldest);
            }
            self.urls.push_back(url.clone());
        }
        Ok(self.by_url.entry(url).or_insert_with(|| Active::new(fault, now)).hit(now))
    }

    /// Faults set by name that still concern somebody: as they were written, with what is `left` of their `times`.
    pub fn list(&self, now: Instant) -> Map<String, Value> {
        let active = self.by_name.iter().filter(|(_, active)| !active.is_over(now));
        active.map(|(name, active)| (name.clone(), Value::Object(print(active)))).collect()
    }

    pub fn get(&self, name: &str, now: Instant) -> Option<Value> {
        self.by_name.get(name).filter(|active| !active.is_over(now)).map(|active| Value::Object(print(active)))
    }
}

fn print(active: &Active) -> Map<String, Value> {
    let mut json = active.fault.to_json();
    if let Some(left) = active.left {
        json.insert("left".to_owned(), left.into());
    }
    json
}

fn path_of(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn fault(json: &str) -> Fault {
        Fault::from_json(json.as_bytes()).unwrap()
    }

    /// Statuses met by one delivery each.
    fn check(faults: &mut Faults, url: &str, now: Instant, expected: &[Option<u16>]) {
        let (name, query) = url.split_once('?').map_or((url, None), |(name, query)| (name, Some(query)));
        let met: Vec<_> =
            expected.iter().map(|_| faults.meet(name, query, now).unwrap().and_then(|fault| fault.status)).collect();
        assert_eq!(met, expected, "{url}");
    }

    #[test]
    fn a_fault_concerns_its_inbox_as_often_as_asked() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        assert!(faults.set("ana", fault(r#"{"status":500,"times":2}"#), now));
        check(&mut faults, "bob", now, &[None]);
        check(&mut faults, "ana", now, &[Some(500), Some(500), None, None]);
        assert!(faults.list(now).is_empty());
    }

    #[test]
    fn an_outage_ends_by_itself() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        faults.set("ana", fault(r#"{"status":503,"outage_for":"10s"}"#), now);
        check(&mut faults, "ana", now + Duration::from_secs(9), &[Some(503), Some(503)]);
        check(&mut faults, "ana", now + Duration::from_secs(10), &[None]);
    }

    #[test]
    fn a_url_counts_for_itself_and_starts_again_when_cleared() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        check(&mut faults, "ana?status=500&times=1", now, &[Some(500), None]);
        check(&mut faults, "ana?status=500&times=1&case=2", now, &[Some(500), None]);
        check(&mut faults, "ana?status=410", now, &[Some(410), Some(410)]);
        faults.clear(Some("bob"));
        check(&mut faults, "ana?status=500&times=1", now, &[None]);
        faults.clear(Some("ana"));
        check(&mut faults, "ana?status=500&times=1", now, &[Some(500), None]);
    }

    #[test]
    fn counted_urls_are_bounded() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        for case in 0..=COUNT_MAX {
            check(&mut faults, &format!("ana?status=500&times=1&case={case}"), now, &[Some(500)]);
        }
        assert_eq!((faults.by_url.len(), faults.urls.len()), (COUNT_MAX, COUNT_MAX));
        check(&mut faults, "ana?status=500&times=1&case=1", now, &[None]);
    }
}
