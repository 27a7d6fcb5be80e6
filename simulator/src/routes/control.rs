//! Looking at inboxes, faults and callbacks, and setting them up.

use std::time::Instant;

use serde_json::json;

use super::{State, unprocessable};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::wire::Request;

const HELP: &str = "Chat4All simulator. POST to /inbox/NAME is kept and answered 200; GET /inbox/NAME shows it.
GET /inbox · GET, DELETE /inbox/NAME · GET /faults · GET, PUT, DELETE /faults/NAME · or /inbox/NAME?status=500&times=3
WhatsApp and Instagram: POST /v25.0/ACCOUNT/messages, GET /v25.0/ACCOUNT · Telegram: /botTOKEN/sendMessage, /botTOKEN/getMe
Their inboxes are whatsapp/NUMBER, instagram/ID, telegram/CHAT: GET /inbox/whatsapp/5562996991812
Receipts: GET, PUT /callbacks · a message from the other side: POST /inbound/whatsapp, /inbound/instagram, /inbound/telegram
";

impl State {
    pub fn control(&mut self, request: &Request, now: Instant) -> Answer {
        let head = &request.head;
        let (method, mut parts) = (head.method.as_str(), head.path.trim_start_matches('/').splitn(2, '/'));
        let (room, name) = (parts.next().unwrap_or_default(), parts.next().filter(|name| !name.is_empty()));
        match (method, room, name) {
            ("GET", "", None) => Answer::text(200, HELP),
            ("GET", "inbox", None) => Answer::json(200, &self.inboxes.list()),
            ("GET", "inbox", Some(name)) => self.show(name, head.query.as_deref()),
            ("DELETE", "inbox", None) => Answer::json(200, &json!({ "deleted": self.inboxes.clear_all() })),
            ("DELETE", "inbox", Some(name)) => Answer::json(200, &json!({ "deleted": self.inboxes.clear(name) })),
            ("GET", "faults", None) => Answer::json(200, &json!({ "faults": self.faults.list(now) })),
            ("GET", "faults", Some(name)) => match self.faults.get(name, now) {
                Some(fault) => Answer::json(200, &fault),
                None => Answer::problem(404, "no_fault", None, "no fault is set there"),
            },
            ("PUT", "faults", Some(name)) => self.set_fault(name, request.body(), now),
            ("DELETE", "faults", name) => {
                self.faults.clear(name);
                Answer { body: Default::default(), ..Answer::text(204, "") }
            }
            ("GET", "callbacks", None) => Answer::json(200, &self.callbacks.show()),
            ("PUT", "callbacks", None) => self.set_callbacks(request.body()),
            (_, "" | "inbox" | "faults" | "inbound", _) | (_, "callbacks", None) => {
                Answer::problem(405, "method_not_allowed", None, "GET / says what there is")
            }
            _ => Answer::problem(404, "not_found", None, "GET / says what there is"),
        }
    }

    fn show(&self, name: &str, query: Option<&str>) -> Answer {
        let limit = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("limit=")));
        match limit.map_or(Ok(usize::MAX), str::parse) {
            Ok(limit) => Answer { body: self.inboxes.show(name, limit).into(), ..Answer::json(200, &()) },
            Err(_) => Answer::problem(422, "invalid_limit", Some("limit"), "`limit` must be a whole number"),
        }
    }

    fn set_fault(&mut self, name: &str, body: &[u8], now: Instant) -> Answer {
        let fault = match Fault::from_json(body) {
            Ok(fault) => fault,
            Err(error) => return unprocessable(error),
        };
        if !self.faults.set(name, fault, now) {
            return Answer::problem(
                422,
                "too_many_faults",
                None,
                "10000 faults are set; DELETE /faults takes them away",
            );
        }
        Answer::json(200, &self.faults.get(name, now))
    }

    fn set_callbacks(&self, body: &[u8]) -> Answer {
        match self.callbacks.set(body) {
            Ok(()) => Answer::json(200, &self.callbacks.show()),
            Err(error) => Answer::problem(422, "invalid_callbacks", Some(&error.field), &error.detail),
        }
    }
}
