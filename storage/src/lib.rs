//! The ports Log and Status, their conformance suites, in-memory adapters.
