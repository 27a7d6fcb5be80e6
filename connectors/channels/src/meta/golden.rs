//! Guards the requests: each file in `golden/` is one, byte for byte, apart from the token.
//!
//! To add a file: add a check, run the tests with `GOLDEN_WRITE=1`, read the new file, and commit it. Only files that
//! are missing are written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chat4all_proto::Outbound;
use http::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::Request;

pub(crate) const TOKEN: &str = "EAAG-hunter2";

/// A delivery of `content` to `to`, perhaps in reply.
pub(crate) fn delivery(to: &str, content: &str, reply_to: Option<&str>) -> Outbound {
    let mut delivery: Outbound = serde_json::from_str(&format!(
        r#"{{"v":1,"tenant":"default","delivery_id":"dlv_018f4e0e-0000-7000-8000-000000000002","generation":0,
        "router_epoch":1,"message_id":"msg_018f4e0e-0000-7000-8000-000000000001","conversation_id":"order-42",
        "to":"channel:{to}","content":{content},"accepted_at":1795300424123,"expires_at":1795386824123}}"#
    ))
    .unwrap();
    delivery.reply_to = reply_to.map(str::to_owned);
    delivery
}

/// `request` is what `golden/{folder}/{name}.json` holds. The answer is the file's name.
pub(crate) fn check(folder: &str, name: &str, request: &Request) -> String {
    let path = path(folder).join(format!("{name}.json"));
    let printed = print(request);
    if !path.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("golden/{folder}/{name}.json: {error}"));
    assert_eq!(printed, golden, "{name}");
    serde_json::from_str::<serde_json::Value>(&golden).unwrap();
    format!("{name}.json")
}

/// `checked` are all the files there are.
pub(crate) fn check_all(folder: &str, checked: impl IntoIterator<Item = String>) {
    let there = std::fs::read_dir(path(folder)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(BTreeSet::from_iter(checked), there.collect());
}

fn print(request: &Request) -> String {
    let header = |name| request.headers[name].to_str().unwrap();
    assert_eq!(request.url.query(), None);
    format!(
        "{{\n\"method\": \"{}\",\n\"path\": \"{}\",\n\"content-type\": \"{}\",\n\"authorization\": \"{}\",\n\"body\": {}\n}}\n",
        request.method,
        request.url.path(),
        header(CONTENT_TYPE),
        header(AUTHORIZATION).replace(TOKEN, "<access token>"),
        str::from_utf8(&request.body).unwrap(),
    )
}

fn path(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(folder)
}
