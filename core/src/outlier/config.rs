//! What counts as an outlier, and what becomes of one.

use std::time::Duration;

/// Settings of outlier detection: instances that fail more than the others are left out for a time.
///
/// Four rules find them, each of which can be switched off. The defaults are those of gRPC (gRFC A50)
/// for the two statistical ones, of Envoy for failures in a row, and of Finagle's failure accrual for
/// the moving success rate.
///
/// | rule | looks | catches |
/// |---|---|---|
/// | [failures in a row](Self::with_consecutive_failures) | at each failure | what is simply broken, at once |
/// | [moving success rate](Self::with_moving_success_rate) | every second | what fails often, however few calls it gets |
/// | [success rate](Self::with_success_rate) | each interval | what does worse than the others |
/// | [failure share](Self::with_failure_share) | each interval | what does badly, even if many do |
///
/// An ejected instance takes no calls. When its time is over, one call may try it: if it succeeds the
/// instance is back, if it fails the next ejection is longer. The number that is ejected at once is
/// bounded ([`with_max_ejected`](Self::with_max_ejected)), and the last one never is.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::DefaultEndpointer;
/// use fleetward_core::outlier::OutlierDetection;
/// let detection = OutlierDetection::default()
///     .with_consecutive_failures(Some(3))
///     .with_ejection_time(Duration::from_secs(10), Duration::from_secs(60));
/// let builder = DefaultEndpointer::builder().outlier_detection(detection);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutlierDetection {
    pub(super) interval: Duration,
    pub(super) base_ejection: Duration,
    pub(super) max_ejection: Duration,
    pub(super) first_ejection: Duration,
    pub(super) max_ejected: f64,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) moving: Option<MovingSuccessRate>,
    pub(super) success_rate: Option<SuccessRate>,
    pub(super) failure_share: Option<FailureShare>,
}

/// The rule on an instance's own success rate, as it was lately.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MovingSuccessRate {
    /// The rate below which it is ejected (default 0.8).
    pub threshold: f64,
    /// After what time an old outcome counts 1/e (default 30 s).
    pub window: Duration,
    /// How many outcomes within about that time it takes to judge (default 5).
    pub min_requests: u32,
}

/// The rule on how an instance does beside the others: gRFC A50's `success_rate_ejection`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SuccessRate {
    /// How many standard deviations below the mean it may be (default 1.9). Of N instances, k that are
    /// equally bad lie at most `sqrt((N - k) / k)` deviations below: where more than 21.7 % are,
    /// this rule sees none of them.
    pub deviations: f64,
    /// How far below the mean it is at least to be an outlier (default 0.05). Among instances that
    /// hardly ever fail the deviations are tiny, and without this a single failure in an interval
    /// would make an outlier. gRFC A50 has no such bound; set 0 for its behaviour.
    pub min_difference: f64,
    /// How many instances with enough requests it takes to judge (default 5).
    pub min_instances: usize,
    /// How many requests within an interval an instance must have had (default 100).
    pub min_requests: u32,
}

/// The rule on an instance's own share of failures: gRFC A50's `failure_percentage_ejection`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FailureShare {
    /// The share above which it is ejected (default 0.85).
    pub threshold: f64,
    /// How many instances with enough requests it takes to judge (default 5).
    pub min_instances: usize,
    /// How many requests within an interval an instance must have had (default 50).
    pub min_requests: u32,
}

impl Default for MovingSuccessRate {
    fn default() -> Self {
        Self { threshold: 0.8, window: Duration::from_secs(30), min_requests: 5 }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { deviations: 1.9, min_difference: 0.05, min_instances: 5, min_requests: 100 }
    }
}

impl Default for FailureShare {
    fn default() -> Self {
        Self { threshold: 0.85, min_instances: 5, min_requests: 50 }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            first_ejection: Duration::from_secs(5),
            max_ejected: 0.1,
            consecutive_failures: Some(5),
            moving: Some(MovingSuccessRate::default()),
            success_rate: Some(SuccessRate::default()),
            failure_share: Some(FailureShare::default()),
        }
    }
}

impl OutlierDetection {
    /// Sets how often the statistical rules look (default 10 s, at least 1 s).
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_secs(1));
        self
    }

    /// Sets how long the statistical rules eject: `base` times how often it happened lately, up to
    /// `max` (default 30 s, 300 s; gRFC A50; a year at most). Jittered by a tenth.
    #[must_use]
    pub fn with_ejection_time(mut self, base: Duration, max: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        self.base_ejection = base.min(YEAR);
        self.max_ejection = max.clamp(self.base_ejection, YEAR);
        self
    }

    /// Sets how long the rules on the instance's own failures eject it the first time (default 5 s);
    /// twice as long each time it fails again, up to the maximum of
    /// [`with_ejection_time`](Self::with_ejection_time). Jittered by a tenth.
    #[must_use]
    pub fn with_first_ejection(mut self, first: Duration) -> Self {
        self.first_ejection = first;
        self
    }

    /// Sets the share of instances that may be ejected at once (default 0.1). While fewer than that
    /// are, one more may go: so one always may, except for the last. Clamped to 0 to 1; NaN means the
    /// default; with 0 nothing is ejected.
    #[must_use]
    pub fn with_max_ejected(mut self, share: f64) -> Self {
        self.max_ejected = if share.is_nan() { 0.1 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Ejects after so many failures without a success in between (default 5; `None` switches it
    /// off; at least 1). At once, without waiting for an interval's end.
    #[must_use]
    pub fn with_consecutive_failures(mut self, failures: Option<u32>) -> Self {
        self.consecutive_failures = failures.map(|failures| failures.max(1));
        self
    }

    /// Sets the rule on the moving success rate.
    #[must_use]
    pub fn with_moving_success_rate(mut self, rule: Option<MovingSuccessRate>) -> Self {
        self.moving = rule;
        self
    }

    /// Sets the rule on the success rate beside the others'.
    ///
    /// ```
    /// use fleetward_core::outlier::{OutlierDetection, SuccessRate};
    /// let mut rule = SuccessRate::default();
    /// rule.deviations = 2.5;
    /// let detection = OutlierDetection::default().with_success_rate(Some(rule));
    /// ```
    #[must_use]
    pub fn with_success_rate(mut self, rule: Option<SuccessRate>) -> Self {
        self.success_rate = rule;
        self
    }

    /// Sets the rule on the share of failures.
    #[must_use]
    pub fn with_failure_share(mut self, rule: Option<FailureShare>) -> Self {
        self.failure_share = rule;
        self
    }

    pub(crate) fn suspect_after(&self) -> u32 {
        self.consecutive_failures.unwrap_or(0)
    }
}
