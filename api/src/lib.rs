//! HTTP ingress and queries.
