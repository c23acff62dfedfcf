//! What can be set of an endpointer that follows an instancer.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::endpoints::FeedbackConfig;
use crate::outlier::OutlierDetection;

/// See the setters of [`EndpointerBuilder`](super::EndpointerBuilder).
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) invalidate_on_error: Option<Duration>,
    pub(super) max_concurrent: usize,
    pub(super) make_timeout: Duration,
    pub(super) backoff: Backoff,
    pub(super) feedback: FeedbackConfig,
    pub(super) panic_threshold: f64,
    pub(super) outliers: Option<OutlierDetection>,
    pub(super) seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        Self {
            invalidate_on_error: None,
            max_concurrent: 64,
            make_timeout: Duration::from_secs(10),
            backoff: backoff.unwrap_or_default(),
            feedback: FeedbackConfig::default(),
            panic_threshold: 0.5,
            outliers: None,
            seed: None,
        }
    }
}
