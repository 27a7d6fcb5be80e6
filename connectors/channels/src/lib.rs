//! One folder a provider, no I/O: content to request, answer to outcome, limits.
