//! New endpoints get their calls by and by.

use std::time::Duration;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::endpoints::Member;
use fleetward_core::{Balancer, Error};
use tokio::time::Instant;

use crate::draws::Draws;

/// Wraps a balancer so that an endpoint that has just come up gets few calls at first.
///
/// Choose it for instances that are slow until their caches and pools are warm. An endpoint that
/// became ready `t` ago gets `max(least, (t / window)^(1 / aggression))` of what it would get
/// otherwise: with the defaults a tenth at first, then in a straight line to all of it. The same
/// holds for one that comes back from an ejection or a lost connection.
///
/// The wrapped balancer chooses; an endpoint in its window is taken with that probability, else the
/// balancer is asked again. What counts is how new an endpoint is beside the others: while all are
/// new, as they are to a client that has just started, the wrapped balancer is left alone. So it is
/// when none is new: that costs a comparison.
///
/// A balancer that insists on an endpoint (a hash, a full scan for the least busy) is asked three
/// times and then without that endpoint, so it is slowed less than the factor says.
///
/// ```
/// use std::time::Duration;
/// use fleetward_balancers::{PeakEwma, SlowStart};
/// let balancer = SlowStart::new(PeakEwma::new()).with_window(Duration::from_secs(60));
/// assert_eq!(balancer.factor(Duration::from_secs(3)), 0.1);
/// assert_eq!(balancer.factor(Duration::from_secs(30)), 0.5);
/// assert_eq!(balancer.factor(Duration::from_secs(90)), 1.0);
/// ```
///
/// Source: [Envoy's slow start mode](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start).
#[derive(Debug)]
pub struct SlowStart<B> {
    inner: B,
    draws: Draws,
    window: Duration,
    aggression: f32,
    least: f32,
}

/// Where nearly all endpoints are new, one in ten is accepted: then so many are enough in 29 of 30
/// picks.
const TRIES: usize = 32;

impl<B> SlowStart<B> {
    /// A window of 30 s, aggression 1, at least a tenth.
    pub fn new(inner: B) -> Self {
        let window = Duration::from_secs(30);
        Self { inner, draws: Draws::default(), window, aggression: 1.0, least: 0.1 }
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.draws = Draws::with_seed(seed);
        self
    }

    /// Sets after what time an endpoint gets all its calls (default 30 s, at most a day).
    #[must_use]
    pub fn with_window(mut self, window: Duration) -> Self {
        self.window = window.min(Duration::from_secs(86_400));
        self
    }

    /// Sets how the calls grow: 1 (default) in a straight line, above faster at first, below slower
    /// (clamped to 0.01 to 100; NaN counts as 1).
    #[must_use]
    pub fn with_aggression(mut self, aggression: f32) -> Self {
        self.aggression = if aggression.is_nan() { 1.0 } else { aggression.clamp(0.01, 100.0) };
        self
    }

    /// Sets what an endpoint gets at least, of what it would get otherwise (default 0.1; 0 to 1,
    /// clamped to that range).
    #[must_use]
    pub fn with_least(mut self, least: f32) -> Self {
        self.least = if least.is_nan() { 0.1 } else { least.clamp(0.0, 1.0) };
        self
    }

    /// What an endpoint gets that became ready so long ago, of what it would get otherwise.
    pub fn factor(&self, age: Duration) -> f32 {
        if age >= self.window {
            return 1.0;
        }
        let part = age.as_secs_f32() / self.window.as_secs_f32();
        let grown = if self.aggression == 1.0 { part } else { part.powf(1.0 / self.aggression) };
        grown.max(self.least)
    }

    fn newcomers(&self, members: &[Member], now: Instant) -> Option<Newcomers> {
        let since = || members.iter().map(Member::available_since);
        // A sum beyond the clock's range is never: nothing is that new.
        let until = since().max()?.checked_add(self.window)?;
        Some(Newcomers { until, oldest: since().min()? }).filter(|_| now < until)
    }
}

/// That some endpoints may be in their window.
#[derive(Clone, Copy, Debug)]
struct Newcomers {
    /// When the last one will have left it.
    until: Instant,
    /// When the endpoint became ready that has been so for the longest time.
    oldest: Instant,
}

struct Plan {
    newcomers: Option<Newcomers>,
    inner: Option<Prepared>,
}

impl<B: Balancer> SlowStart<B> {
    fn pick_slowly(
        &self,
        endpoints: &ReadySet<'_>,
        context: &PickContext<'_>,
        newcomers: Newcomers,
    ) -> Option<usize> {
        let now = context.now();
        if now >= newcomers.until {
            return self.inner.pick(endpoints, context);
        }
        // Beside others that are as new, nobody is new.
        let most = self.factor(now.saturating_duration_since(newcomers.oldest));
        let (mut last, mut in_a_row) = (None, 0);
        for _ in 0..TRIES {
            let picked = self.inner.pick(endpoints, context);
            let Some((picked, member)) = picked.and_then(|at| Some((at, endpoints.get(at)?)))
            else {
                break;
            };
            let factor = self.factor(now.saturating_duration_since(member.available_since()));
            if factor >= most || self.draws.unit() < f64::from(factor / most) {
                return Some(picked);
            }
            in_a_row = if last == Some(picked) { in_a_row + 1 } else { 1 };
            last = Some(picked);
            if in_a_row == 3 && context.attempt() == 0 {
                let refused = [member.instance().id().clone()];
                let other = self.inner.pick(endpoints, &context.with_attempt(0, &refused));
                return other.filter(|&at| at < endpoints.len()).or(last);
            }
        }
        last
    }
}

impl<B: Balancer> Balancer for SlowStart<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let (newcomers, inner) = match endpoints.prepared::<Plan>() {
            Some(plan) => (plan.newcomers, plan.inner.as_ref()),
            None => (self.newcomers(endpoints.members(), context.now()), None),
        };
        let endpoints = endpoints.with_prepared(inner);
        match newcomers {
            None => self.inner.pick(&endpoints, context),
            Some(newcomers) => self.pick_slowly(&endpoints, context, newcomers),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        let newcomers = self.newcomers(endpoints.members(), Instant::now());
        let inner = self.inner.prepare(&endpoints.with_prepared(None));
        Some(Box::new(Plan { newcomers, inner }))
    }
}

impl SlowStart<std::sync::Arc<dyn Balancer>> {
    /// From `window`, `aggression` and `least`.
    pub(crate) fn from_options(
        options: &mut fleetward_core::registry::Options,
        inner: std::sync::Arc<dyn Balancer>,
    ) -> Result<Self, Error> {
        let mut balancer = Self::new(inner);
        if let Some(window) = options.take_duration("window")? {
            balancer = balancer.with_window(window);
        }
        if let Some(aggression) = options.take_parsed::<f32>("aggression")? {
            if !(0.01..=100.0).contains(&aggression) {
                return Err(Error::invalid_input("the option is 0.01 to 100")
                    .with_context("option", "aggression"));
            }
            balancer = balancer.with_aggression(aggression);
        }
        if let Some(least) = options.take_parsed::<f32>("least")? {
            if !(0.0..=1.0).contains(&least) {
                return Err(
                    Error::invalid_input("the option is 0 to 1").with_context("option", "least")
                );
            }
            balancer = balancer.with_least(least);
        }
        Ok(balancer)
    }
}
