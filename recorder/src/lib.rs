//! Status actors: coalesce and persist.
