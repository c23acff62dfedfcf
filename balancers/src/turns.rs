//! Whose turn it is: a count that many threads draw from.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// So many turns does a thread take at once that meets another one at the count.
const LEASE: u64 = 32;

/// One count for all threads.
///
/// While no two threads draw at the very same moment, each draws the next turn, whoever draws. Where two do,
/// they would spend their time on handing the count's cache line to each other, and which of them is first means
/// nothing anyway: so who finds the count changed under its hands takes a lease, some turns in a row, and
/// draws from that until it is used up. Every turn is drawn once; those of a lease late, if its thread pauses.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    next: Padded,
    /// A power of two of them; made when they are first needed.
    leases: OnceLock<Box<[Padded]>>,
}

/// Two lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Turns {
    /// Counts from 0. Wrapping around jumps once in centuries.
    // Relaxed throughout: a turn orders nothing else.
    pub(crate) fn next(&self) -> u64 {
        if let Some(leases) = self.leases.get()
            && let Some(turn) = Lease::of(leases).draw()
        {
            return turn;
        }
        let turn = self.next.0.load(Ordering::Relaxed);
        let drawn = self.next.0.compare_exchange(
            turn,
            turn.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        drawn.unwrap_or_else(|_| self.contended())
    }

    #[cold]
    fn contended(&self) -> u64 {
        let lease = Lease::of(self.leases.get_or_init(leases));
        let take = if lease.reserve() { LEASE } else { 1 };
        let first = self.next.0.fetch_add(take, Ordering::Relaxed);
        if take > 1 {
            lease.fill(first.wrapping_add(1));
        }
        first
    }
}

fn leases() -> Box<[Padded]> {
    let threads = thread::available_parallelism().map_or(8, usize::from);
    let count = threads.saturating_mul(2).clamp(4, 256).next_power_of_two();
    (0..count).map(|_| Padded::default()).collect()
}

/// What a thread has left of its lease; in the low bits how many turns, above them the next one. More threads
/// than there are leases share them.
struct Lease<'a>(&'a AtomicU64);

/// LEASE fits in.
const BITS: u32 = 6;
const LEFT: u64 = (1 << BITS) - 1;

/// Nothing left, and somebody about to fill it.
const RESERVED: u64 = u64::MAX << BITS;

impl<'a> Lease<'a> {
    fn of(leases: &'a [Padded]) -> Self {
        Self(&leases[thread_number() & (leases.len() - 1)].0)
    }

    /// Nothing if there is nothing, or another thread was quicker.
    fn draw(&self) -> Option<u64> {
        let lease = self.0.load(Ordering::Relaxed);
        if lease & LEFT == 0 {
            return None;
        }
        // One turn on, one less left.
        let rest = lease.wrapping_add(LEFT);
        let drawn = self.0.compare_exchange(lease, rest, Ordering::Relaxed, Ordering::Relaxed);
        drawn.is_ok().then_some(lease >> BITS)
    }

    /// Whether this thread, and no other, may fill it.
    fn reserve(&self) -> bool {
        let lease = self.0.load(Ordering::Relaxed);
        let is_empty = lease & LEFT == 0 && lease != RESERVED;
        let reserve =
            || self.0.compare_exchange(lease, RESERVED, Ordering::Relaxed, Ordering::Relaxed);
        is_empty && reserve().is_ok()
    }

    /// With what is left after the first turn, which is drawn already.
    fn fill(&self, next: u64) {
        self.0.store(next << BITS | (LEASE - 1), Ordering::Relaxed);
    }
}

/// Threads are numbered as they first ask, so that a runtime's workers get different leases.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    // A thread whose locals are gone already may share the first one's.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads whose picks do not meet, one after the other, as a runtime's workers mostly do.
    #[test]
    fn turns_go_up_by_one_whoever_draws() {
        let turns = Turns::default();
        for expected in 0..100 {
            let drawn = thread::scope(|scope| scope.spawn(|| turns.next()).join().unwrap());
            assert_eq!(drawn, expected);
        }
    }

    #[test]
    fn a_lease_is_used_up_before_the_next_turn_is_drawn() {
        let turns = Turns::default();
        let first = turns.contended();
        let rest: Vec<_> = (1..LEASE).map(|_| turns.next()).collect();
        assert_eq!((first, rest), (0, (1..LEASE).collect()));
        assert_eq!(turns.next(), LEASE);
        // Another thread's is its own.
        turns.contended();
        let other = thread::scope(|scope| scope.spawn(|| turns.next()).join().unwrap());
        assert_eq!(other, 2 * LEASE + 1);
    }

    /// No turn is drawn twice, and none is lost but those that are still to be drawn from a lease.
    #[test]
    fn every_turn_is_drawn_once() {
        const THREADS: usize = 16;
        const DRAWS: usize = 50_000;
        let turns = Turns::default();
        let mut seen = thread::scope(|scope| {
            let drawing = [(); THREADS]
                .map(|()| scope.spawn(|| (0..DRAWS).map(|_| turns.next()).collect::<Vec<_>>()));
            drawing.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for lease in turns.leases.get().iter().flat_map(|leases| leases.iter()) {
            let lease = Lease(&lease.0);
            seen.extend(std::iter::from_fn(|| lease.draw()));
        }
        let drawn = turns.next.0.load(Ordering::Relaxed);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..drawn));
    }
}
