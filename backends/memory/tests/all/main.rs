//! The embedded registry, as its users have it.

mod conformance;
