//! What every role stands on: ordered partition worker, supervisor, clock, shutdown.
