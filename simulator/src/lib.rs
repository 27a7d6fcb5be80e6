//! A provider double over real HTTP, with faults on demand.
