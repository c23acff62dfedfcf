//! Whose turn it is: a count that many threads draw from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use fleetward_core::balancing::PickContext;

/// So many turns does a thread take at once that meets another one at the count.
const LEASE: u64 = 64;

/// One count for all threads.
///
/// While no two threads draw at the very same moment, each draws the next turn, whoever draws. Where two do,
/// they would spend their time on handing the count's cache line to each other, and which of them is first means
/// nothing anyway: so who finds the count changed under its hands takes a lease, some turns in a row, and
/// draws from that alone; and again, until nobody else has drawn meanwhile. Every turn is drawn once; those of a
/// lease late, if its thread pauses, or by the next thread if it ends.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    next: Padded<AtomicU64>,
    /// By the threads' numbers; made when they are first needed.
    leases: OnceLock<Box<[Padded<Lease>]>>,
}

/// Two lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Written by one thread only, so it needs no more than loads and stores.
#[derive(Debug, Default)]
struct Lease {
    next: AtomicU64,
    left: AtomicU64,
}

// Relaxed throughout: a turn orders nothing else.
impl Turns {
    /// The turn of one call: the next one. A second choice takes none, but any at random: if it took the next
    /// one, that would be lost to whom it belongs, and the calls that follow would skip the same endpoints
    /// again and again.
    #[inline]
    pub(crate) fn of(&self, context: &PickContext<'_>) -> u64 {
        if context.is_second_choice() { fastrand::u64(..) } else { self.next() }
    }

    /// Counts from 0. Wrapping around jumps once in centuries.
    pub(crate) fn next(&self) -> u64 {
        let Some(leases) = self.leases.get() else {
            return self.draw().unwrap_or_else(|| self.contended());
        };
        let Some(lease) = Lease::own(leases) else {
            return self.next.0.fetch_add(1, Ordering::Relaxed);
        };
        let (next, left) = (lease.next.load(Ordering::Relaxed), lease.left.load(Ordering::Relaxed));
        if left > 0 {
            lease.set(next.wrapping_add(1), left - 1);
            return next;
        }
        // Nothing has been drawn by a thread whose next turn is 0.
        if next != 0 && self.next.0.load(Ordering::Relaxed) != next {
            // Others draw as well.
            return self.renew(lease);
        }
        match self.draw() {
            Some(turn) => {
                lease.set(turn.wrapping_add(1), 0);
                turn
            }
            None => self.renew(lease),
        }
    }

    /// Nothing if another thread does so at the same moment.
    fn draw(&self) -> Option<u64> {
        let turn = self.next.0.load(Ordering::Relaxed);
        let on = turn.wrapping_add(1);
        let drawn = self.next.0.compare_exchange(turn, on, Ordering::Relaxed, Ordering::Relaxed);
        drawn.ok()
    }

    #[cold]
    fn contended(&self) -> u64 {
        match Lease::own(self.leases.get_or_init(leases)) {
            Some(lease) => self.renew(lease),
            None => self.next.0.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn renew(&self, lease: &Lease) -> u64 {
        let first = self.next.0.fetch_add(LEASE, Ordering::Relaxed);
        lease.set(first.wrapping_add(1), LEASE - 1);
        first
    }
}

fn leases() -> Box<[Padded<Lease>]> {
    let threads = thread::available_parallelism().map_or(8, usize::from);
    (0..threads.saturating_mul(4).clamp(16, 1024)).map(|_| Padded::default()).collect()
}

impl Lease {
    /// This thread's, unless there are too many threads.
    fn own(leases: &[Padded<Self>]) -> Option<&Self> {
        // A thread whose locals are gone already has none.
        let number = NUMBER.try_with(|number| number.0).ok()?;
        leases.get(number).map(|lease| &lease.0)
    }

    fn set(&self, next: u64, left: u64) {
        self.next.store(next, Ordering::Relaxed);
        self.left.store(left, Ordering::Relaxed);
    }
}

thread_local!(static NUMBER: Number = Number::new());

/// A thread's, as long as it lives; then it is another one's, which takes its leases over.
struct Number(usize);

/// Those of threads that have ended, and how many there are in all.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

impl Number {
    fn new() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, count) = &mut *free;
        Self(ended.pop().unwrap_or_else(|| {
            *count += 1;
            *count - 1
        }))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.push(self.0);
    }
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
    fn a_lease_is_used_up_and_renewed_while_others_draw() {
        let turns = Turns::default();
        let some = |count: u64| (0..count).map(|_| turns.next()).collect::<Vec<_>>();
        assert_eq!(turns.contended(), 0);
        assert_eq!(some(LEASE - 1), (1..LEASE).collect::<Vec<_>>());
        // Nobody else has drawn: turn by turn again.
        assert_eq!(some(2), [LEASE, LEASE + 1]);
        let other = thread::scope(|scope| scope.spawn(|| turns.next()).join().unwrap());
        assert_eq!(other, LEASE + 2);
        // Somebody has: a lease.
        assert_eq!(turns.next(), LEASE + 3);
        assert_eq!(turns.next(), LEASE + 4);
        assert_eq!(turns.next.0.load(Ordering::Relaxed), 2 * LEASE + 3);
    }

    #[test]
    fn a_thread_takes_over_the_number_of_one_that_has_ended() {
        let number = || NUMBER.with(|number| number.0);
        let numbers: Vec<_> =
            (0..1000).map(|_| thread::scope(|s| s.spawn(number).join().unwrap())).collect();
        // Other tests have threads too.
        assert!(numbers.iter().all(|number| *number < 200), "{numbers:?}");
    }

    /// No turn is drawn twice, and none is lost but those that are still to be drawn from a lease.
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
        for Padded(lease) in turns.leases.get().iter().flat_map(|leases| leases.iter()) {
            let next = lease.next.load(Ordering::Relaxed);
            seen.extend(next..next + lease.left.load(Ordering::Relaxed));
        }
        let drawn = turns.next.0.load(Ordering::Relaxed);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..drawn));
    }
}
