//! Outlier detection, where it is wanted.

use tokio::time::Instant;

use super::pace::PAUSE;
use crate::InstanceId;
use crate::endpoints::Member;
use crate::outlier::{OutlierDetection, OutlierDetector};

/// A detector, or none, that is not run more often than the machine has room for.
pub(super) struct Outliers {
    detector: Option<OutlierDetector>,
    not_before: Instant,
}

impl Outliers {
    pub(super) fn new(detection: Option<OutlierDetection>, seed: u64) -> Self {
        let now = Instant::now();
        let detector = detection.map(|detection| OutlierDetector::new(detection, seed, now));
        Self { detector, not_before: now }
    }

    pub(super) fn add(&mut self, member: &Member) {
        if let Some(detector) = &mut self.detector {
            detector.add(member);
        }
    }

    pub(super) fn remove(&mut self, id: &InstanceId) {
        if let Some(detector) = &mut self.detector {
            detector.remove(id);
        }
    }

    /// When to [`run`](Self::run) next.
    pub(super) fn next_run(&self) -> Option<Instant> {
        let next = self.detector.as_ref()?.next_wake()?;
        Some(next.max(self.not_before))
    }

    /// Whether something has changed.
    pub(super) fn run(&mut self) -> bool {
        let Some(detector) = &mut self.detector else { return false };
        let begin = Instant::now();
        let changed = detector.run(begin);
        let end = Instant::now();
        self.not_before = end + (end - begin) * PAUSE;
        changed
    }
}
