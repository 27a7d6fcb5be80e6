//! Series of the router.

use std::sync::LazyLock;

use chat4all_proto::ChannelName;
use prometheus::{IntCounter, IntCounterVec, register_int_counter, register_int_counter_vec};

static ROUTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("chat4all_messages_routed_total", "Copies put on a channel's topic.", &["channel"])
        .expect("the name is registered once")
});
static REPEATED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("chat4all_messages_repeated_total", "Messages dropped as repeats of one already routed.")
        .expect("the name is registered once")
});

pub(crate) fn record_routed(channel: &ChannelName) {
    ROUTED.with_label_values(&[channel.as_str()]).inc();
}

pub(crate) fn record_repeat() {
    REPEATED.inc();
}
