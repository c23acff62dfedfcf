//! Against real etcd servers, started and hurt by the test kit.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod auth;
mod basics;
mod clashes;
mod cluster;
mod conformance;
mod faults;
mod late;
mod leases;
mod losses;
mod pages;
mod support;
mod tls;
mod watches;
mod whole;
mod wrong;
