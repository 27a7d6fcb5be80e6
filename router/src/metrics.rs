//! Series of the router.

use chat4all_proto::ChannelName;

chat4all_metrics::declare! {
    /// Copies put on a channel's topic.
    static ROUTED: IntCounterVec = "chat4all_messages_routed_total", ["channel"];
    "sum by (channel) (rate(chat4all_messages_routed_total[5m]))"

    /// Messages dropped as repeats of one already routed.
    pub(crate) static REPEATED: IntCounter = "chat4all_messages_repeated_total";
    "sum(rate(chat4all_messages_repeated_total[5m]))"
}

pub(crate) fn record_routed(channel: &ChannelName) {
    ROUTED.with_label_values(&[channel.as_str()]).inc();
}

pub(crate) fn record_repeat() {
    REPEATED.inc();
}
