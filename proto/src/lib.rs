//! The contract: ids, addresses, envelopes, statuses, topics, HTTP bodies. Serde only, no I/O.
