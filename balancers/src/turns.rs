//! Whose turn it is: counts that many threads draw from.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// One count for all threads, or several, so that threads that only pick do not wait for each
/// other's cache line.
///
/// One count keeps the order exact whatever threads the calls come from; a contended one costs some
/// tens of nanoseconds, which a call that takes microseconds does not notice. Several keep the order
/// exact for each thread only: so that is a choice, not the default.
#[derive(Debug)]
pub(crate) struct Turns {
    /// A power of two of them.
    counts: Box<[Padded]>,
}

/// Two lines: processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Turns {
    /// One count from 0.
    pub(crate) fn shared() -> Self {
        Self { counts: Box::new([Padded(AtomicU64::new(0))]) }
    }

    /// A count for each thread that picks, or nearly so; all start apart from each other.
    pub(crate) fn per_thread(seed: u64) -> Self {
        let threads = thread::available_parallelism().map_or(8, usize::from);
        let counts = threads.saturating_mul(2).clamp(4, 256).next_power_of_two();
        let mut starts = fastrand::Rng::with_seed(seed);
        Self { counts: (0..counts).map(|_| Padded(AtomicU64::new(starts.u64(..)))).collect() }
    }

    /// The next one. Wrapping around jumps once in centuries.
    pub(crate) fn next(&self) -> u64 {
        let count = match &*self.counts {
            [only] => only,
            counts => &counts[thread_number() & (counts.len() - 1)],
        };
        // Relaxed: the count orders nothing else.
        count.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Threads are numbered as they first ask, so that a runtime's workers get different counts.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    // A thread whose locals are gone already may share the first one's.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_count_goes_up_by_one_whoever_asks() {
        let turns = Turns::shared();
        let mut seen = thread::scope(|scope| {
            let asked = [(); 4]
                .map(|()| scope.spawn(|| (0..1000).map(|_| turns.next()).collect::<Vec<_>>()));
            asked.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..4000));
    }

    #[test]
    fn with_a_count_each_a_thread_sees_every_turn_of_its_own() {
        let turns = Turns::per_thread(1);
        let first = turns.next();
        // Another thread may share the count only if there are more threads than counts.
        assert_eq!(turns.next(), first.wrapping_add(1));
        let other = thread::scope(|scope| scope.spawn(|| turns.next()).join().unwrap());
        assert!(other.abs_diff(first) > 2);
    }
}
