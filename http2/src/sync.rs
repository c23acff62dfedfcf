//! The atomics of what is made from them by hand. `models/` compiles the same files with loom's.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
