//! Against real Consul agents, started and hurt by the test kit.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod acl;
mod agents;
mod basics;
mod checks;
mod clashes;
mod cluster;
mod conformance;
mod faults;
mod formats;
mod index;
mod limit;
mod log;
mod lossy;
mod operator;
mod scripted;
mod support;
mod ways;
