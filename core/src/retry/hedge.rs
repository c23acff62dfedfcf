//! When a call that has not been answered is sent once more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::quantile::Latencies;

/// How long a hedged call waits for an answer before it is sent to another instance as well.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::retry::HedgeDelay;
/// let fixed = HedgeDelay::fixed(Duration::from_millis(50));
/// // After the time within which 95 % are answered: about one call in twenty is sent twice.
/// let tail = HedgeDelay::quantile(0.95);
/// ```
#[derive(Clone, Debug)]
pub struct HedgeDelay(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Fixed(Duration),
    Quantile { quantile: f64, latencies: Arc<Latencies>, floor: Duration },
}

impl HedgeDelay {
    /// Always the same delay; zero sends all attempts at once.
    pub fn fixed(delay: Duration) -> Self {
        Self(Kind::Fixed(delay))
    }

    /// The time within which the share `quantile` of the calls that succeeded lately had their answer (clamped to 0.5 to
    /// 0.999; NaN means 0.95). Until a hundred have succeeded the delay is a second. It is never below
    /// [`at_least`](Self::at_least).
    ///
    /// Clones measure together.
    pub fn quantile(quantile: f64) -> Self {
        let quantile = if quantile.is_nan() { 0.95 } else { quantile.clamp(0.5, 0.999) };
        let latencies = Arc::new(Latencies::default());
        Self(Kind::Quantile { quantile, latencies, floor: Duration::ZERO })
    }

    /// Sets the least delay that follows from a quantile (default: none).
    #[must_use]
    pub fn at_least(mut self, least: Duration) -> Self {
        if let Kind::Quantile { floor, .. } = &mut self.0 {
            *floor = least;
        }
        self
    }

    pub(super) fn delay(&self) -> Duration {
        match &self.0 {
            Kind::Fixed(delay) => *delay,
            Kind::Quantile { quantile, latencies, floor } => {
                latencies.quantile(*quantile).unwrap_or(Duration::from_secs(1)).max(*floor)
            }
        }
    }

    /// A call that began then has succeeded.
    pub(super) fn took(&self, began: Instant) {
        if let Kind::Quantile { latencies, .. } = &self.0 {
            latencies.record(began.elapsed());
        }
    }
}
