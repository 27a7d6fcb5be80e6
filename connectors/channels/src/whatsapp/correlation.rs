//! What each send carries as `biz_opaque_callback_data` and each receipt gives back: our delivery's id, and for a replay
//! its generation, so that a late receipt of an earlier way is not taken for one of the replay's.

use chat4all_proto::{DeliveryId, Generation};

pub(super) fn write(delivery: DeliveryId, generation: Generation) -> String {
    if generation.is_first() { delivery.to_string() } else { format!("{delivery}/{}", generation.0) }
}

/// `None` for what somebody else sent along.
pub(super) fn read(text: &str) -> Option<(DeliveryId, Generation)> {
    let (delivery, generation) = match text.split_once('/') {
        Some((delivery, generation)) => (delivery, generation.parse().ok()?),
        None => (text, 0),
    };
    Some((delivery.parse().ok()?, Generation(generation)))
}
