//! Each kind of bad input is refused with its status and code, naming the field.

use crate::support::{Harness, Reply, TEXT_MAX, hello};

struct Case<'a> {
    path: &'a str,
    content_type: &'a str,
    headers: Vec<(&'a str, String)>,
    body: String,
}

impl<'a> Case<'a> {
    fn body(body: impl Into<String>) -> Self {
        Self { path: "/v1/messages", content_type: "application/json", headers: Vec::new(), body: body.into() }
    }

    fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Sends one request to a fresh message call. `field` is empty where none is at fault.
async fn check(harness: &Harness, case: Case<'_>, status: u16, code: &str, field: &str) {
    let shown: String = case.body.chars().take(120).collect();
    let mut request = harness.client.post(format!("{}{}", harness.base, case.path)).body(case.body);
    if !case.content_type.is_empty() {
        request = request.header("content-type", case.content_type);
    }
    for (name, value) in &case.headers {
        request = request.header(*name, value);
    }
    let problem = Reply::of(request).await.problem();
    let got = (problem.status, problem.code.as_str(), problem.field.as_deref().unwrap_or_default());
    assert_eq!(got, (status, code, field), "{shown}: {problem:?}");
    assert!(problem.detail.len() <= 404, "{} bytes of detail", problem.detail.len());
}

fn to(targets: &str) -> Case<'static> {
    Case::body(format!(r#"{{"to":{targets},"content":{{"type":"text","text":"hi"}}}}"#))
}

fn content(content: &str) -> Case<'static> {
    Case::body(format!(r#"{{"to":"hook:ana","content":{content}}}"#))
}

fn also(fields: &str) -> Case<'static> {
    Case::body(format!(r#"{{"to":"hook:ana","content":{{"type":"text","text":"hi"}},{fields}}}"#))
}

fn many(count: usize) -> String {
    let targets: Vec<_> = (0..count).map(|n| format!("\"hook:{n}\"")).collect();
    format!("[{}]", targets.join(","))
}

#[tokio::test]
async fn malformed_json_is_400() {
    let harness = Harness::start();
    let deep = format!(r#"{{"to":"hook:ana","metadata":{{"a":{}1{}}}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    for body in ["", "{", "nope", r#"{"to":"hook:ana"}}"#, "{\"to\":\"\u{1}\"}", deep.as_str()] {
        check(&harness, Case::body(body), 400, "malformed_json", "").await;
    }
    assert_eq!(harness.log.appends(), 0);
}

#[tokio::test]
async fn a_bad_field_is_422_and_named() {
    let harness = Harness::start();
    let long = "x".repeat(TEXT_MAX + 1);
    let rows = [
        (Case::body("[]"), ""),
        (Case::body("{}"), "to"),
        (Case::body(r#"{"to":"hook:ana"}"#), "content"),
        (to("5"), "to"),
        (to(r#"["hook:ana",5]"#), "to[1]"),
        (to("[]"), "to"),
        (to(&many(101)), "to"),
        (to(r#"["hook:ana","ana"]"#), "to[1]"),
        (to(r#"["hook:ana","hook:"]"#), "to[1]"),
        (to(r#"["hook:ana","hook:bob","hook:ana"]"#), "to[2]"),
        (to(r#"["hook:a\nb"]"#), "to[0]"),
        (to(r#"["sms:ana","hook:nobody"]"#), "to[1]"),
        (content(r#"{"type":"fax"}"#), "content.type"),
        (content(r#"{"text":"hi"}"#), "content.type"),
        (content(r#"{"type":"text"}"#), "content.text"),
        (content(r#"{"type":"text","txt":"hi"}"#), "content.txt"),
        (content(r#"{"type":"text","text":"hi","url":"x"}"#), "content.url"),
        (content(r#"{"type":"text","text":7}"#), "content.text"),
        (content(r#"{"type":"text","text":"a\u0000b"}"#), "content.text"),
        (content(r#"{"type":"text","text":"a\u001bb"}"#), "content.text"),
        (content(&format!(r#"{{"type":"text","text":"{long}"}}"#)), "content.text"),
        (content(r#"{"type":"media","url":"https://x/\r\nb"}"#), "content.url"),
        (content(r#"{"type":"media","url":"https://x/","mime_type":"a\nb"}"#), "content.mime_type"),
        (
            content(r#"{"type":"template","name":"a","language":"pt","variables":{"n":["a\u0007"]}}"#),
            "content.variables.n",
        ),
        (content(&format!(r#"{{"type":"raw","body":{}{}}}"#, "[".repeat(200), "]".repeat(200))), "content.body"),
        (also(r#""colour":"red""#), "colour"),
        (also(r#""to":"hook:bob""#), "to"),
        (also(r#""metadata":[]"#), "metadata"),
        (also(r#""conversation_id":"""#), "conversation_id"),
        (also(r#""conversation_id":"a\nb""#), "conversation_id"),
        (also(&format!(r#""conversation_id":"{}""#, "c".repeat(257))), "conversation_id"),
        (also(r#""message_id":"42""#), "message_id"),
        (also(r#""expires_in_seconds":0"#), "expires_in_seconds"),
        (also(r#""expires_in_seconds":604801"#), "expires_in_seconds"),
        (also(r#""expires_in_seconds":-1"#), "expires_in_seconds"),
        (Case::body(hello()).header("idempotency-key", ""), "idempotency-key"),
        (Case::body(hello()).header("idempotency-key", "k".repeat(256)), "idempotency-key"),
        (Case::body(hello()).header("idempotency-key", "é"), "idempotency-key"),
        (Case::body(hello()).header("idempotency-key", "a").header("idempotency-key", "b"), "idempotency-key"),
        (
            also(r#""message_id":"msg_018f4e0e-0000-7000-8000-000000000000""#).header("idempotency-key", "a"),
            "message_id",
        ),
    ];
    for (case, field) in rows {
        check(&harness, case, 422, "invalid_field", field).await;
    }
    assert_eq!(harness.log.appends(), 0);
}

#[tokio::test]
async fn an_unknown_channel_is_answered_with_those_there_are() {
    let harness = Harness::start();
    let reply = harness.send(r#"{"to":["hook:a","fax:1"],"content":{"type":"text","text":"hi"}}"#).await;
    let problem = reply.expect(422, "unknown_channel");
    assert_eq!(problem.field.as_deref(), Some("to[1]"));
    assert!(problem.detail.contains("`fax`") && problem.detail.contains("hook, sms"), "{}", problem.detail);
}

#[tokio::test]
async fn a_field_that_is_not_built_is_not_ignored() {
    let harness = Harness::start();
    for (fields, field) in [
        (r#""mode":"first""#, "mode"),
        (r#""from":"a""#, "from"),
        (r#""deliver_at":"2030-01-01T00:00:00Z""#, "deliver_at"),
        (r#""priority":"high""#, "priority"),
        (r#""callback_url":"https://x""#, "callback_url"),
    ] {
        check(&harness, also(fields), 422, "not_supported", field).await;
    }
    let batch = Case { path: "/v1/messages/batch", ..Case::body("{}") }.header("idempotency-key", "a");
    check(&harness, batch, 422, "not_supported", "idempotency-key").await;
    assert_eq!(harness.send(r#"{"to":"hook:a","mode":"all","content":{"type":"text","text":"hi"}}"#).await.status, 202);
}

#[tokio::test]
async fn another_type_or_encoding_of_body_is_415() {
    let harness = Harness::start();
    for content_type in
        ["", "text/plain", "application/x-ndjson", "application/jsonx", "application/x-www-form-urlencoded"]
    {
        let case = Case { content_type, ..Case::body(hello()) };
        check(&harness, case, 415, "unsupported_media_type", "content-type").await;
    }
    let zipped = Case::body(hello()).header("content-encoding", "gzip");
    check(&harness, zipped, 415, "unsupported_media_type", "content-encoding").await;
    let plain = harness.post("/v1/messages", hello()).header("content-encoding", "identity");
    assert_eq!(Reply::of(plain).await.status, 202);
    let charset = harness.client.post(format!("{}/v1/messages", harness.base)).body(hello());
    assert_eq!(Reply::of(charset.header("content-type", "Application/JSON; charset=utf-8")).await.status, 202);
}

#[tokio::test]
async fn a_bad_parameter_is_422_and_named() {
    let harness = Harness::start();
    let conversation = "/v1/conversations/c/messages";
    for (path, name) in [
        ("/v1/messages?limit=0".to_owned(), "limit"),
        ("/v1/messages?limit=201".to_owned(), "limit"),
        ("/v1/messages?limit=ten".to_owned(), "limit"),
        ("/v1/messages?limit=1&limit=2".to_owned(), "limit"),
        ("/v1/messages?status=lost".to_owned(), "status"),
        ("/v1/messages?channel=A%20B".to_owned(), "channel"),
        ("/v1/messages?colour=red".to_owned(), "colour"),
        ("/v1/messages?cursor=made-up".to_owned(), "cursor"),
        (format!("{conversation}?status=sent"), "status"),
        (format!("{conversation}?cursor=%ff"), "cursor"),
        ("/v1/messages/42".to_owned(), "id"),
        ("/v1/messages/dlv_018f4e0e-0000-7000-8000-000000000000".to_owned(), "id"),
        (format!("/v1/conversations/{}/messages", "c".repeat(257)), "id"),
        ("/v1/channels?x=1".to_owned(), "x"),
    ] {
        let problem = Reply::of(harness.get(&path)).await.expect(422, "invalid_parameter");
        assert_eq!(problem.field.as_deref(), Some(name), "{path}: {problem:?}");
    }
    let reply = Reply::of(harness.post("/v1/messages?dry_run=1", hello())).await;
    assert_eq!(reply.expect(422, "invalid_parameter").field.as_deref(), Some("dry_run"));
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_refused() {
    let harness = Harness::start();
    for path in ["/v1/events", "/v1/stats/summary", "/v1/dead-letters/a/b", "/v1/messages/a/b"] {
        Reply::of(harness.get(path)).await.expect(404, "not_supported");
    }
    for path in ["/", "/docs", "/openapi.json", "/v2/messages"] {
        Reply::of(harness.get(path)).await.expect(404, "not_found");
    }
    for (path, allow) in
        [("/v1/messages", "GET, HEAD, POST"), ("/v1/messages/batch", "POST"), ("/metrics", "GET, HEAD")]
    {
        let reply = Reply::of(harness.client.delete(format!("{}{path}", harness.base))).await;
        reply.expect(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{path}");
    }
}

#[tokio::test]
async fn a_request_id_of_the_client_is_kept_if_it_is_plain() {
    let harness = Harness::start();
    for (given, kept) in [("abc-1", true), ("a b", false), (&*"x".repeat(200), false)] {
        let reply = Reply::of(harness.get("/nowhere").header("x-request-id", given)).await;
        assert_eq!(reply.problem().request_id == given, kept, "{given}");
    }
}
