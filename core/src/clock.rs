//! A time that costs nothing to read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time as of the last call that began, to a millisecond.
///
/// A pick needs the time to let old latencies fade, and asking the system for it costs as much as
/// the pick itself. Every call reads the clock anyway when it begins, so it leaves the time here.
/// Written at most once a millisecond, so that the line stays shared between cores.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    nanos: AtomicU64,
}

impl Clock {
    const STEP: u64 = 1_000_000;

    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), nanos: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.origin + Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// Takes note of the time.
    #[inline]
    pub(crate) fn set(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.origin).as_nanos() as u64;
        if nanos > self.nanos.load(Ordering::Relaxed).saturating_add(Self::STEP) {
            self.nanos.store(nanos, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_in_steps_and_never_goes_back() {
        let clock = Clock::new();
        let start = Instant::now();
        clock.set(start + Duration::from_micros(900));
        assert_eq!(clock.now(), start);
        let later = start + Duration::from_secs(5);
        clock.set(later);
        clock.set(start);
        assert_eq!(clock.now(), later);
    }
}
