//! Streams that are to end without making room for others.

use crate::sync::{AtomicUsize, Ordering};

/// How many streams are open beyond the server's limit. Each that ends pays for one, whoever ends it: none pays twice,
/// and none that pays makes room. No lock: a stream may end in any `Drop`.
#[derive(Debug, Default)]
pub(crate) struct Owed(AtomicUsize);

impl Owed {
    pub(crate) fn add(&self, streams: usize) {
        self.0.fetch_add(streams, Ordering::Relaxed);
    }

    /// Pays with so many streams, and says how many were not needed.
    pub(crate) fn pay(&self, streams: usize) -> usize {
        let mut left = streams;
        let pay = |owed: usize| {
            left = streams.saturating_sub(owed);
            (owed > 0).then(|| owed.saturating_sub(streams))
        };
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay) {
            Ok(_) => left,
            Err(_) => streams,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}
