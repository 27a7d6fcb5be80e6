//! Every error code of the providers that we know of, as a real HTTP answer through channel and client: each comes to its
//! outcome. The lists are written from the providers' documentation, not from the channels' own tables.

#![allow(clippy::unwrap_used)] // clippy knows only `#[test]` functions as tests, not their helpers

use std::time::Duration;

use chat4all_channels::{Channel, instagram, telegram, whatsapp};
use chat4all_connectors::http::{Client, Options};
use chat4all_proto::envelope::OutcomeKind::{self, *};
use chat4all_proto::outcome::{Outcome, Report, Scope};
use chat4all_proto::{Outbound, Timestamp};
use chat4all_simulator::{Simulator, credentials};
use serde_json::json;

const NOW: Timestamp = Timestamp::from_millis(1_795_300_500_000);

struct Bench {
    simulator: Simulator,
    client: Client,
}

impl Bench {
    fn new() -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let simulator = Simulator::start(chat4all_simulator::Options { listen, ..Default::default() }).unwrap();
        let options = Options { allow_private_targets: true, attempt_timeout: Duration::from_secs(10) };
        Self { simulator, client: Client::new(options).unwrap() }
    }

    fn config<C: serde::de::DeserializeOwned>(&self, path: &str, more: serde_json::Value) -> C {
        let mut config = more;
        config["base_url"] = format!("http://{}{path}", self.simulator.addr()).into();
        serde_json::from_value(config).unwrap()
    }

    fn whatsapp(&self, token: &str) -> whatsapp::WhatsApp {
        let own = json!({"phone_number_id": credentials::PHONE_NUMBER_ID, "access_token": token});
        whatsapp::WhatsApp::new(self.config("/v25.0", own)).ok().unwrap()
    }

    fn instagram(&self, token: &str) -> instagram::Instagram {
        let own = json!({"account_id": credentials::INSTAGRAM_ACCOUNT_ID, "access_token": token});
        instagram::Instagram::new(self.config("/v25.0", own)).ok().unwrap()
    }

    fn telegram(&self, token: &str) -> telegram::Telegram {
        telegram::Telegram::new(self.config("", json!({"bot_token": token}))).ok().unwrap()
    }

    /// One attempt, as the channel actor makes it.
    async fn attempt(&self, channel: &dyn Channel, target: &str) -> Report {
        let delivery: Outbound = serde_json::from_value(json!({
            "v": 1, "tenant": "default", "delivery_id": "dlv_018f4e0e-0000-7000-8000-000000000002", "generation": 0,
            "router_epoch": 1, "message_id": "msg_018f4e0e-0000-7000-8000-000000000001", "conversation_id": "order-42",
            "to": format!("{}:{target}", channel.kind()), "content": {"type": "text", "text": "olá 🚚"},
            "accepted_at": 1_795_300_424_123_u64, "expires_at": 1_795_386_824_123_u64,
        }))
        .unwrap();
        let mut answer = self.client.call(channel.request(&delivery, NOW).unwrap()).await;
        if let Some(request) = channel.moved(&delivery, &answer, NOW) {
            answer = self.client.call(request).await;
        }
        channel.report(&answer, NOW)
    }

    async fn check(&self, channel: &dyn Channel, target: &str, expected: (OutcomeKind, &str)) {
        let report = self.attempt(channel, target).await;
        let code = report.code.as_deref().unwrap_or_default();
        assert_eq!((report.outcome.kind(), code), expected, "{target}: {report:?}");
        assert!(!report.code_is_unknown, "{target}: {report:?}");
        if expected.0 != Accepted {
            assert!(report.detail.is_some(), "{target}");
        }
    }
}

/// Those of the Graph API, at both of its channels.
const GRAPH: [(OutcomeKind, &[i64]); 4] = [
    (AccountProblem, &[0, 190, 3, 10, 200, 368]),
    (Transient, &[1, 2]),
    (Throttled, &[4, 613]),
    (MessageRejected, &[100]),
];

#[tokio::test]
async fn whatsapp_codes_come_to_their_outcomes() {
    let bench = Bench::new();
    let channel = bench.whatsapp(credentials::ACCESS_TOKEN);
    let own: [(OutcomeKind, &[i64]); 5] = [
        (Throttled, &[130_429, 131_056, 131_048, 131_064, 17, 80_007]),
        (Transient, &[131_000, 131_016, 133_004, 131_057, 131_052, 131_053]),
        (RecipientGone, &[131_026, 131_030, 137_000, 131_050]),
        (
            MessageRejected,
            &[
                131_049, 130_472, 131_047, 131_008, 131_009, 131_021, 131_051, 131_062, 135_000, 132_000, 132_001,
                132_005, 132_007, 132_008, 132_012, 132_015, 132_016, 132_068, 132_069,
            ],
        ),
        (AccountProblem, &[131_005, 131_031, 131_037, 131_042, 131_045, 131_063, 130_497, 133_010]),
    ];
    for (expected, codes) in own.iter().chain(&GRAPH) {
        for code in *codes {
            bench.check(&channel, &format!("+999{code:06}"), (*expected, &code.to_string())).await;
        }
    }
    let accepted = bench.attempt(&channel, "+5562996991812").await;
    let Outcome::Accepted { provider_id: Some(id) } = &accepted.outcome else { panic!("{accepted:?}") };
    assert!(id.starts_with("wamid."), "{id}");
    let stranger = bench.whatsapp("wrong-token");
    bench.check(&stranger, "+5562996991812", (AccountProblem, "190")).await;
    let few = bench.attempt(&channel, "+999131052").await.outcome;
    assert!(matches!(few, Outcome::Transient { attempts_max: Some(2..=3), .. }), "{few:?}");
}

#[tokio::test]
async fn instagram_codes_come_to_their_outcomes() {
    let bench = Bench::new();
    let channel = bench.instagram(credentials::ACCESS_TOKEN);
    for (expected, codes) in GRAPH {
        for code in codes {
            bench.check(&channel, &format!("999{code:05}"), (expected, &code.to_string())).await;
        }
    }
    for (expected, code, subcode) in [
        (Transient, 1_200, None),
        (Throttled, 32, None),
        (Throttled, 80_006, None),
        (RecipientGone, 100, Some(2_018_001)),
        (RecipientGone, 551, None),
        (RecipientGone, 200, Some(1_545_041)),
        (MessageRejected, 10, Some(2_018_278)),
        (MessageRejected, 10, Some(2_018_065)),
        (Transient, 100, Some(2_018_047)),
        (AccountProblem, 230, None),
    ] {
        let (target, code) = match subcode {
            None => (format!("999{code:05}"), code.to_string()),
            Some(subcode) => (format!("999{code:05}{subcode}"), format!("{code}/{subcode}")),
        };
        bench.check(&channel, &target, (expected, &code)).await;
    }
    let once_more = bench.attempt(&channel, "999001002018047").await.outcome;
    assert!(matches!(once_more, Outcome::Transient { attempts_max: Some(2), .. }), "an upload gets one retry");
    bench.check(&channel, "17841400000000000", (Accepted, "200")).await;
    bench.check(&bench.instagram("wrong-token"), "17841400000000000", (AccountProblem, "190")).await;
}

#[tokio::test]
async fn telegram_descriptions_come_to_their_outcomes() {
    let bench = Bench::new();
    let channel = bench.telegram(credentials::BOT_TOKEN);
    let kinds: [(OutcomeKind, &[&str]); 7] = [
        (Accepted, &["42", "99940000"]), // the second is a group that moved: sent to its new id at once
        (RecipientGone, &["99940001", "99940002", "99940003", "99940004", "99940005", "99940006", "99940007"]),
        (MessageRejected, &["99940008", "99940009", "99940010", "99940011", "99940012", "99940013", "99941300"]),
        (AccountProblem, &["99940100", "99940400", "99940900"]),
        (RecipientGone, &["99940300", "99940301", "99940302", "99940303", "99940304", "99940305"]),
        (Throttled, &["99942900"]),
        (Transient, &["99950000", "99950200"]),
    ];
    for (expected, chats) in kinds {
        for chat in chats {
            let report = bench.attempt(&channel, chat).await;
            assert_eq!(report.outcome.kind(), expected, "{chat}: {report:?}");
            assert!(!report.code_is_unknown, "{chat}: {report:?}");
        }
    }
    let throttled = bench.attempt(&channel, "99942900").await.outcome;
    assert_eq!(throttled, Outcome::Throttled { after: Some(Duration::from_secs(1)), scope: Scope::Unsaid });
    for wrong in ["700000001:wrong", "1:x"] {
        let report = bench.attempt(&bench.telegram(wrong), "42").await;
        assert_eq!(report.outcome.kind(), AccountProblem, "{report:?}");
        assert!(!format!("{report:?}").contains(wrong), "the token came out");
    }
}

#[tokio::test]
async fn a_code_that_nobody_knows_is_safe_and_counted() {
    let bench = Bench::new();
    let report = bench.attempt(&bench.whatsapp(credentials::ACCESS_TOKEN), "+999777777").await;
    assert_eq!((report.outcome, report.code_is_unknown), (Outcome::MessageRejected, true));
    let report = bench.attempt(&bench.telegram(credentials::BOT_TOKEN), "99940099").await;
    assert_eq!((report.outcome, report.code_is_unknown), (Outcome::MessageRejected, true));
}

#[tokio::test]
async fn a_probe_tells_good_credentials_from_bad_ones() {
    let bench = Bench::new();
    let channels: [(Box<dyn Channel>, bool); 6] = [
        (Box::new(bench.whatsapp(credentials::ACCESS_TOKEN)), true),
        (Box::new(bench.whatsapp("wrong-token")), false),
        (Box::new(bench.instagram(credentials::ACCESS_TOKEN)), true),
        (Box::new(bench.instagram("wrong-token")), false),
        (Box::new(bench.telegram(credentials::BOT_TOKEN)), true),
        (Box::new(bench.telegram("700000001:wrong")), false),
    ];
    for (channel, is_good) in channels {
        let report = channel.report(&bench.client.call(channel.probe().unwrap()).await, NOW);
        let expected = if is_good { Accepted } else { AccountProblem };
        assert_eq!(report.outcome.kind(), expected, "{}: {report:?}", channel.kind());
    }
}
