//! Generator and receiver against a stub of the API that hands every message on at once.

use std::sync::Arc;

use chat4all_proto::http::{Accepted, SendRequest};
use chat4all_proto::{MessageId, MessageStatus, TenantId, Timestamp};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::http::{Buffered, Endpoint};
use super::load::{Load, Sent};
use super::plan::{Pace, Plan};
use super::receiver::{self, Receiver};

fn id(n: &Value) -> MessageId {
    MessageId::from_idempotency_key(&TenantId::default(), &n.to_string())
}

/// Refuses every message whose number is a multiple of 10, delivers the others to `receiver` before it answers.
async fn serve(stream: TcpStream, receiver: Endpoint) {
    let mut receiver = receiver.connect().await.unwrap();
    let mut requests = Buffered::new(stream);
    while let Ok(Some(request)) = requests.next().await {
        let body: Value = serde_json::from_slice(request.body).unwrap();
        requests.consume();
        let answer = match body.get("messages").and_then(Value::as_array) {
            None => {
                let (status, answer) = take(body, &mut receiver).await;
                (status, answer)
            }
            Some(messages) => {
                let mut results = Vec::new();
                for message in messages {
                    let (status, answer) = take(message.clone(), &mut receiver).await;
                    results.push(json!({"status": status, "message_id": answer.get("message_id")}));
                }
                (200, json!({ "results": results }))
            }
        };
        let text = answer.1.to_string();
        let head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n\r\n{text}", answer.0, text.len());
        requests.stream.write_all(head.as_bytes()).await.unwrap();
    }
}

async fn take(message: Value, receiver: &mut super::http::Connection) -> (u16, Value) {
    let request: SendRequest = serde_json::from_value(message.clone()).unwrap();
    let n = &request.metadata["n"];
    if n.as_u64().unwrap().is_multiple_of(10) {
        return (503, json!({}));
    }
    let id = id(n);
    let webhook = format!(
        r#"{{"type":"message","data":{{"message_id":"{id}","content":{{"text":"x"}},"metadata":{{"n":{n}}}}}}}"#
    );
    let (status, _) = receiver.call("POST", "/inbox/1", &webhook).await.unwrap();
    assert_eq!(status, 200);
    let accepted = Accepted {
        message_id: id,
        conversation_id: request.conversation_id.unwrap().parse().unwrap(),
        status: MessageStatus::Accepted,
        accepted_at: Timestamp::from_millis(0),
    };
    (202, serde_json::to_value(accepted).unwrap())
}

fn endpoint(addr: std::net::SocketAddr) -> Endpoint {
    Endpoint::new(&format!("http://{addr}").parse().unwrap(), None).unwrap()
}

async fn run(plan: Plan) -> (Sent, receiver::Arrivals) {
    let receiver = Receiver::start(plan.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = endpoint(listener.local_addr().unwrap());
    let to_receiver = endpoint(receiver.addr());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, to_receiver.clone()));
        }
    });
    let load = Load::start(Arc::new(plan), api, "hook:http://h/inbox".into(), receiver.epoch());
    let finished = async {
        while !load.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), finished).await.expect("the load ends");
    (load.finish().await.unwrap(), receiver.arrivals())
}

async fn check(pace: Pace) {
    let plan = Plan::new(500, 4, 20, 64, pace);
    let (sent, arrivals) = run(plan).await;
    assert_eq!((sent.samples.len(), sent.refused), (450, 50), "{pace:?}");
    assert_eq!((arrivals.repeated, arrivals.overtaken), (0, 0), "{pace:?}");
    for sample in &sent.samples {
        let (arrived, at_ns) = arrivals.first[sample.n as usize].expect("it came");
        assert_eq!(arrived, sample.id);
        assert!(sample.due_ns <= sample.accepted_ns && at_ns <= sample.accepted_ns, "{sample:?}");
    }
}

#[tokio::test]
async fn every_pace_sends_the_whole_plan_and_the_receiver_knows_each_message() {
    check(Pace::Closed).await;
    check(Pace::Batches { messages: 7 }).await;
    check(Pace::Open { per_second: 5_000 }).await;
}

#[tokio::test]
async fn the_refusing_path_refuses_and_counts_nothing() {
    let receiver = Receiver::start(Plan::new(1, 1, 1, 1, Pace::Closed)).unwrap();
    let mut api = endpoint(receiver.addr()).connect().await.unwrap();
    let path = format!("{}/0", receiver::REFUSING_PATH);
    assert_eq!(api.call("POST", &path, "{}").await.unwrap().0, 503);
    assert_eq!(api.call("POST", "/inbox/0", "{}").await.unwrap().0, 400);
    assert_eq!(receiver.received(), 0);
}
