//! With an API key only its holders come in, apart from probes.

use std::io::ErrorKind;
use std::sync::Arc;

use chat4all_api::{Options, Parts};
use chat4all_storage::status::memory::MemoryStatus;
use tokio::sync::watch;

use crate::support::{Harness, RECORDER, ROUTER, Reply, TestLog, hello};

const KEY: &str = "canary-key-4711";

#[tokio::test]
async fn every_call_but_the_probes_needs_the_key() {
    let harness = Harness::with(|options| options.api_key = Some(KEY.into()));
    for path in ["/v1/messages", "/v1/channels", "/v1/cluster", "/metrics", "/v1/nowhere", "/"] {
        for authorization in [None, Some("Bearer wrong"), Some("Bearer "), Some(KEY), Some("Basic canary-key-4711")] {
            let mut request = harness.get(path);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let reply = Reply::of(request).await;
            reply.expect(401, "unauthorized");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"chat4all\""));
            assert!(!reply.text.contains(KEY), "{reply:?}");
        }
    }
    harness.send(hello()).await.expect(401, "unauthorized");
    assert_eq!(harness.log.appends(), 0);
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(Reply::of(harness.get(path)).await.status, 200);
    }
    for scheme in ["Bearer", "bearer"] {
        let request = harness.post("/v1/messages", hello()).header("authorization", format!("{scheme} {KEY}"));
        assert_eq!(Reply::of(request).await.status, 202);
    }
    let metrics = Reply::of(harness.get("/metrics").header("authorization", format!("Bearer {KEY}"))).await;
    assert!(metrics.status == 200 && !metrics.text.contains(KEY));
}

#[tokio::test]
async fn without_a_key_only_loopback_is_served() {
    let check = |listen: &str, key: Option<&str>, expected: Option<ErrorKind>| {
        let mut options = Options::new(listen.parse().unwrap(), ROUTER, RECORDER);
        options.api_key = key.map(Into::into);
        assert!(!format!("{options:?}").contains(KEY));
        let control = watch::channel(Default::default()).1;
        let parts = Parts { log: TestLog::new(true), status: MemoryStatus::new(), channels: Vec::new(), control };
        let result = chat4all_api::bind(options, parts);
        assert_eq!(result.as_ref().err().map(|error| error.kind()), expected, "{listen}");
        result.ok()
    };
    check("0.0.0.0:0", None, Some(ErrorKind::InvalidInput));
    check("127.0.0.1:0", Some(" "), Some(ErrorKind::InvalidInput));
    check("0.0.0.0:0", Some(KEY), None);
    let taken = check("127.0.0.1:0", None, None).unwrap();
    check(&taken.addr().to_string(), None, Some(ErrorKind::AddrInUse));
}

#[tokio::test]
async fn probes_and_metrics_can_be_served_alone() {
    struct Never;
    #[async_trait::async_trait]
    impl chat4all_api::ops::Readiness for Never {
        async fn readiness(&self) -> chat4all_proto::http::Readiness {
            chat4all_proto::http::Readiness { ready: false, parts: Vec::new() }
        }
    }
    let server = chat4all_api::ops::bind("127.0.0.1:0".parse().unwrap(), None, Arc::new(Never)).unwrap();
    let client = crate::support::client();
    for (path, status) in [("/health/live", 200), ("/health/ready", 503), ("/metrics", 200), ("/v1/messages", 404)] {
        let reply = Reply::of(client.get(format!("http://{}{path}", server.addr()))).await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
    server.stop().await;
}
