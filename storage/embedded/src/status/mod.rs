//! The status store on SQLite.
