//! All integration tests of the crate in one binary.
#![allow(clippy::unwrap_used, missing_docs)] // a test that panics has failed, as it should

mod composed;
mod hashing;
mod load;
mod weighted;
