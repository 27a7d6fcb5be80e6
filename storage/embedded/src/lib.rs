//! The ports on SQLite files that several processes share.
