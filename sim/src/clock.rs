//! Virtual time as the real code sees it.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant};

use crate::Nanos;

/// Turns virtual time into instants.
///
/// Most of the code under simulation is told the time. Where it asks for itself (a member notes when
/// it was made) it must not see the wall clock, or runs would differ by the microseconds between two
/// lines. So tokio's clock is paused, and moved on whenever somebody is about to look at it. Nothing
/// ever runs on the runtime.
#[derive(Debug)]
pub(crate) struct Clock {
    runtime: Runtime,
    origin: Instant,
    now: Nanos,
}

impl Clock {
    /// # Errors
    /// When the system gives no runtime.
    pub(crate) fn new() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let origin = runtime.block_on(async { Instant::now() });
        Ok(Self { runtime, origin, now: 0 })
    }

    /// The instant at a virtual time.
    pub(crate) fn at(&self, now: Nanos) -> Instant {
        self.origin + Duration::from_nanos(now)
    }

    /// The virtual time at an instant.
    pub(crate) fn since_start(&self, instant: Instant) -> Nanos {
        let since = instant.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Runs `f`, to which the clock says `now`, or later if it was moved on already.
    pub(crate) fn standing_at<T>(&mut self, now: Nanos, f: impl FnOnce() -> T) -> T {
        let step = now.saturating_sub(self.now);
        if step > 0 {
            self.runtime.block_on(time::advance(Duration::from_nanos(step)));
            self.now = now;
        }
        let _inside = self.runtime.enter();
        f()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;

    #[test]
    fn what_asks_for_the_time_is_told_virtual_time() {
        let mut clock = Clock::new().unwrap();
        let at = 90_000 * SECOND + 7;
        assert_eq!(clock.standing_at(0, Instant::now), clock.at(0));
        assert_eq!(clock.standing_at(at, Instant::now), clock.at(at));
    }
}
