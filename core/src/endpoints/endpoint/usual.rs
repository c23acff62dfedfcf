//! What is usual among the endpoints of a service.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::latency::PeakEwma;

/// What the latency of endpoints that answer well is on average, as soon as one needs to know that has not.
#[derive(Debug)]
pub(crate) struct Usual {
    created: Instant,
    wanted: AtomicBool,
    latency: PeakEwma,
}

impl Default for Usual {
    fn default() -> Self {
        let (wanted, latency) = (AtomicBool::new(false), PeakEwma::default());
        Self { created: Instant::now(), wanted, latency }
    }
}

impl Usual {
    /// In seconds.
    pub(super) fn get(&self) -> Option<f32> {
        // Written once: the line is shared by all threads.
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
        self.latency.level()
    }

    #[inline]
    pub(super) fn add(&self, latency: &PeakEwma, tau: f32, now: Instant) {
        if self.wanted.load(Ordering::Relaxed)
            && let Some(level) = latency.level()
        {
            self.latency.average(level, now.saturating_duration_since(self.created), tau);
        }
    }
}
