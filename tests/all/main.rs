//! Whole-system tests through the facade, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test that panics has failed, as it should

#[cfg(all(unix, feature = "grpc"))]
mod black_hole;
#[cfg(all(feature = "grpc", feature = "health"))]
mod checked;
mod circles;
#[cfg(all(feature = "grpc", feature = "http", feature = "health"))]
mod compositions;
mod connect;
#[cfg(feature = "grpc")]
mod generated;
#[cfg(all(unix, feature = "grpc", feature = "consul"))]
mod greeter_on_consul;
#[cfg(all(unix, feature = "grpc", feature = "etcd"))]
mod greeter_on_etcd;
#[cfg(all(unix, feature = "grpc", feature = "etcd"))]
mod health;
#[cfg(all(feature = "grpc", feature = "http"))]
mod no_runtime;
#[cfg(all(unix, feature = "grpc", feature = "http", feature = "etcd", feature = "consul"))]
mod nothing;
mod observability;
mod packaging;
#[cfg(all(unix, feature = "grpc", any(feature = "consul", feature = "etcd")))]
mod programs;
mod recipes;
mod registering;
#[cfg(feature = "grpc")]
mod secrets;
mod views;
