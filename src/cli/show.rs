//! `chat4all show`

use std::str::FromStr;

use chat4all_proto::http::{AttemptView, DeliveryView, MessageView};
use chat4all_proto::{Content, MessageId};

use super::client::ApiArgs;
use super::{Failure, say};

/// Shows one message: every delivery and every attempt.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  chat4all show msg_019ab0de-7a3c-7c1e-9a55-3f1b7c0d2e4f")]
pub struct Args {
    /// The message, as `send` and the API name it
    #[arg(value_name = "MESSAGE_ID", value_parser = parsed::<MessageId>)]
    id: MessageId,
    /// As the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Reads an id of the command line.
pub(super) fn parsed<T: FromStr<Err = chat4all_proto::ids::Invalid>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let view = args.api.connect()?.message(args.id).await?;
    if args.json {
        return say(serde_json::to_string_pretty(&view).expect("the API's bodies have text keys only"));
    }
    say(describe(&view))
}

fn describe(view: &MessageView) -> String {
    let mut lines = vec![
        format!("{}  {}", view.message_id, view.status),
        format!("  conversation  {}", view.conversation_id),
        format!("  accepted      {}", view.accepted_at),
    ];
    let more = [
        ("from", view.from.as_ref().map(ToString::to_string)),
        ("provider's id", view.provider_id.clone()),
        ("answers", view.reply_to.clone()),
        ("expires", view.expires_at.map(|at| at.to_string())),
        ("content", Some(content(&view.content))),
    ];
    lines.extend(more.iter().filter_map(|(name, value)| Some(format!("  {name:13} {}", value.as_ref()?))));
    for (name, value) in &view.metadata {
        lines.push(format!("  metadata      {name} = {value}"));
    }
    for delivery in &view.deliveries {
        lines.push(String::new());
        lines.push(format!("{}  {}", delivery.to, summary(delivery)));
        lines.push(format!("  {}, changed {}", delivery.delivery_id, delivery.updated_at));
        lines.extend(delivery.attempts.iter().map(attempt));
    }
    if view.deliveries.is_empty() && view.from.is_none() {
        lines.push("\nno delivery is known yet: the message is not routed".into());
    }
    lines.join("\n")
}

/// Status, reason, next attempt and number of attempts on one line.
pub(super) fn summary(delivery: &DeliveryView) -> String {
    let mut text = delivery.status.to_string();
    if let Some(reason) = delivery.reason {
        text.push_str(&format!(" ({})", reason.as_str()));
    }
    match delivery.attempts.last() {
        Some(last) if !delivery.status.is_end() => {
            let code = last.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
            text.push_str(&format!(", attempt {}: {}{code}", last.number, last.outcome.as_str()));
        }
        Some(_) => text.push_str(&format!(", {}", super::output::count(delivery.attempts.len(), "attempt"))),
        None => {}
    }
    if let Some(at) = delivery.retry_at.filter(|_| !delivery.status.is_end()) {
        text.push_str(&format!(", next at {at}"));
    }
    if let Some(id) = &delivery.provider_id {
        text.push_str(&format!(", provider's id {id}"));
    }
    text
}

fn attempt(attempt: &AttemptView) -> String {
    let generation = match attempt.generation.0 {
        0 => String::new(),
        replay => format!(" of replay {replay}"),
    };
    let code = attempt.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
    let detail = attempt.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!(
        "  attempt {}{generation}  {}  {} ms  {}{code}{detail}",
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        attempt.outcome.as_str()
    )
}

pub(super) fn content(content: &Content) -> String {
    match content {
        Content::Text { text } => format!("{text:?}"),
        Content::Media { url, .. } => format!("media {url}"),
        Content::Template { name, language, .. } => format!("template {name} ({language})"),
        Content::Interactive { text, .. } => format!("interactive {text:?}"),
        Content::Raw { body } => format!("raw, {} bytes", body.get().len()),
    }
}
