//! Whose turn it is: a count that many threads draw from.

use std::sync::atomic::{AtomicU64, Ordering};

use fleetward_core::balancing::PickContext;

/// One count for all threads.
///
/// Two threads that draw without a pause take about 7 ns a turn, one thread takes 4 ns: less than a thousandth of
/// a gRPC call. So the threads share one plain counter.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    next: Padded<AtomicU64>,
}

/// Two lines: processors fetch them in pairs. What stands beside the count is read by every pick.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl Turns {
    /// The turn of one call: the next one. A second choice takes none, but any at random: if it took the next
    /// one, that would be lost to whom it belongs, and the calls that follow would skip the same endpoints
    /// again and again.
    #[inline]
    pub(crate) fn of(&self, context: &PickContext<'_>) -> u64 {
        if context.is_second_choice() { fastrand::u64(..) } else { self.next() }
    }

    /// Counts from 0. Wrapping around jumps once in centuries.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        // Relaxed: a turn orders nothing else.
        self.next.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn turns_go_up_by_one_whoever_draws() {
        let turns = Turns::default();
        for expected in 0..100 {
            let drawn = thread::scope(|scope| scope.spawn(|| turns.next()).join().unwrap());
            assert_eq!(drawn, expected);
        }
    }

    #[test]
    fn every_turn_is_drawn_once() {
        const THREADS: usize = 32;
        const DRAWS: usize = 20_000;
        let turns = Turns::default();
        let mut seen = thread::scope(|scope| {
            let drawing = [(); THREADS]
                .map(|()| scope.spawn(|| (0..DRAWS).map(|_| turns.next()).collect::<Vec<_>>()));
            drawing.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..(THREADS * DRAWS) as u64));
    }
}
