//! Series about the process, and the list of all that there are.

use std::path::Path;

use chat4all_metrics::Metric;
use rustix::fs::statvfs;
use tracing::Level;

use crate::serve::Role;

chat4all_metrics::declare! {
    /// 1, with the version that runs.
    static BUILD_INFO: IntGaugeVec = "chat4all_build_info", ["version"];
    "count by (version) (chat4all_build_info)"

    /// 1 while what the process needs answers: the log, and for a recorder the status store. Asked every 5 s.
    static READY: IntGaugeVec = "chat4all_ready", ["role"];
    "min by (role) (chat4all_ready)"

    /// Free bytes of the file system that an embedded engine's folder is on.
    static DATA_FREE: IntGaugeVec = "chat4all_data_free_bytes", ["engine"];
    "min by (instance) (chat4all_data_free_bytes) / 2^30"

    /// Size of the file system that an embedded engine's folder is on, without what only root may use.
    static DATA_SIZE: IntGaugeVec = "chat4all_data_size_bytes", ["engine"];
    "chat4all_data_free_bytes / chat4all_data_size_bytes"

    /// Lines of our own log, those that were withheld included.
    static LOG_LINES: IntCounterVec = "chat4all_log_lines_total", ["level"];
    "sum by (level) (rate(chat4all_log_lines_total[5m]))"

    /// Lines of our own log that were not written, since too many of their kind came at once.
    static LOG_LINES_WITHHELD: IntCounter = "chat4all_log_lines_withheld_total";
    "sum(increase(chat4all_log_lines_withheld_total[1h]))"
}

/// Who measures what: everything that a process can show, but for what Prometheus' own library says of processes.
pub const ALL: [(&str, &[Metric]); 8] = [
    ("Every process", METRICS),
    ("Actors and consumers, in every worker", chat4all_runtime::metrics::METRICS),
    ("Api", chat4all_api::metrics::METRICS),
    ("Router", chat4all_router::metrics::METRICS),
    ("Connectors", chat4all_connectors::metrics::METRICS),
    ("Recorder", chat4all_recorder::metrics::METRICS),
    ("Kafka as the log", chat4all_kafka::metrics::METRICS),
    ("Traces", chat4all_runtime::trace::METRICS),
];

/// Registers everything, so that what has not happened yet shows 0.
pub fn register() {
    ALL.iter().flat_map(|(_, metrics)| *metrics).for_each(|metric| (metric.register)());
    BUILD_INFO.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
}

pub fn record_ready(role: Role, ready: bool) {
    READY.with_label_values(&[role.as_str()]).set(ready.into());
}

/// What is left of the file system of an embedded engine's folder.
pub fn record_disk(engine: &str, folder: &Path) {
    // A folder that cannot be asked is one that the engine complains of.
    let Ok(system) = statvfs(folder) else { return };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(system.f_frsize)).unwrap_or(i64::MAX);
    DATA_FREE.with_label_values(&[engine]).set(bytes(system.f_bavail));
    let reserved = system.f_bfree.saturating_sub(system.f_bavail);
    DATA_SIZE.with_label_values(&[engine]).set(bytes(system.f_blocks.saturating_sub(reserved)));
}

pub fn record_line(level: Level, withheld: bool) {
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    };
    LOG_LINES.with_label_values(&[level]).inc();
    LOG_LINES_WITHHELD.inc_by(withheld.into());
}

#[cfg(test)]
pub fn ready(role: Role) -> i64 {
    READY.with_label_values(&[role.as_str()]).get()
}

#[cfg(test)]
pub fn withheld() -> u64 {
    LOG_LINES_WITHHELD.get()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");

    /// The page of all metrics.
    fn page() -> String {
        let mut page = String::from(include_str!("metrics.head.md"));
        for (section, metrics) in ALL {
            writeln!(
                page,
                "\n## {section}\n\n| metric | type, labels | meaning | for instance |\n| --- | --- | --- | --- |"
            )
            .unwrap();
            for Metric { name, kind, labels, help, query, .. } in metrics {
                let labels: String = labels.iter().map(|label| format!(", `{label}`")).collect();
                let query = query.replace('|', "\\|");
                writeln!(page, "| `{name}` | {kind}{labels} | {help} | `{query}` |").unwrap();
            }
        }
        page
    }

    #[test]
    fn the_docs_list_every_metric() {
        if std::env::var_os("GOLDEN_WRITE").is_some() {
            std::fs::write(DOCS, page()).expect("docs/ can be written");
        }
        let docs = std::fs::read_to_string(DOCS).unwrap_or_default();
        assert!(docs == page(), "docs/METRICS.md is not what the code says; write it anew with GOLDEN_WRITE=1");
    }

    #[test]
    fn names_follow_the_rules() {
        for metric in ALL.iter().flat_map(|(_, metrics)| *metrics) {
            let Metric { name, kind, help, query, labels, .. } = metric;
            assert!(name.starts_with("chat4all_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
            assert!(*kind != "histogram" || name.ends_with("_seconds"), "{name}: base units");
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
            assert!(query.contains(name), "{name}: the query is about something else: {query}");
            assert!(
                !labels.iter().any(|label| ["message", "conversation", "address"].contains(label)),
                "{name}: unbounded"
            );
        }
    }
}
