//! Routing actors: fan-out.
