//! A fixed part of the calls for some of the instances.

use std::fmt;
use std::sync::Arc;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error, Instance};

use crate::groups::{GroupCache, Grouped, Part};
use crate::turns::Turns;

/// Sends given shares of the calls to given instances, the remainder to the rest: for a canary.
///
/// Each rule says which instances, and what share of the calls they get together, however many they
/// are. An instance belongs to the first rule that it fits. Shares are kept exactly and evenly: of
/// any hundred calls in a row, a share of 5 % gets four to six. A rule that no ready instance fits
/// has no share, and a call that must not go to any of its instances, because earlier attempts have
/// tried them, goes to the rest. If there is no rest, the rules' shares are scaled up.
///
/// The rest and each rule have a balancer of their own.
///
/// ```
/// use fleetward_balancers::{PeakEwma, Split};
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members: Vec<_> = ["v1", "v1", "v2"]
///     .iter()
///     .zip(1..)
///     .map(|(version, i)| Instance::new(format!("10.0.0.{i}:80")).map(|it| it.with_version(*version)))
///     .map(|instance| Member::detached(instance.unwrap()))
///     .collect();
/// let balancer = Split::new(PeakEwma::new).with_version("v2", 0.05);
/// let canary = (0..1000)
///     .filter(|_| balancer.pick(&ReadySet::new(&members), &PickContext::new()) == Some(2))
///     .count();
/// assert!((48..=52).contains(&canary));
/// ```
pub struct Split<B> {
    rules: Vec<Rule>,
    /// The place in a sequence that goes around evenly.
    turns: Turns,
    start: u64,
    kept: GroupCache<usize, B>,
}

struct Rule {
    applies: Box<dyn Fn(&Instance) -> bool + Send + Sync>,
    share: f64,
}

/// 2^64 divided by the golden ratio. Added again and again, it spreads any number of points over
/// 0..2^64 more evenly than any other step, and no rhythm of the callers can keep time with it.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl<B: Balancer + 'static> Split<B> {
    /// Without rules: all are the rest. `make` makes the balancer of the rest and of each rule.
    pub fn new(make: impl Fn() -> B + Send + Sync + 'static) -> Self {
        let (turns, start) = (Turns::default(), fastrand::u64(..));
        Self { rules: Vec::new(), turns, start, kept: GroupCache::new(make) }
    }

    /// Gives a share of the calls to the instances that the rule applies to. Clamped to 0 to 1; NaN counts as 0. Of
    /// shares that come to more than 1 the later ones get what is left.
    #[must_use]
    pub fn with_rule(
        mut self,
        share: f64,
        applies: impl Fn(&Instance) -> bool + Send + Sync + 'static,
    ) -> Self {
        let share = if share.is_nan() { 0.0 } else { share };
        let left = self.rest();
        self.rules.push(Rule { applies: Box::new(applies), share: share.clamp(0.0, left) });
        self
    }

    /// A rule for the instances of a version.
    #[must_use]
    pub fn with_version(self, version: impl Into<Arc<str>>, share: f64) -> Self {
        let version = version.into();
        self.with_rule(share, move |instance| instance.version() == Some(&version))
    }

    /// A rule for the instances with this value in their metadata.
    #[must_use]
    pub fn with_metadata(
        self,
        key: impl Into<Arc<str>>,
        value: impl Into<Arc<str>>,
        share: f64,
    ) -> Self {
        let (key, value) = (key.into(), value.into());
        self.with_rule(share, move |instance| instance.metadata().get(&key) == Some(&value))
    }

    /// Starts at a place that follows from `seed`: the same sequence each time.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.start = seed.wrapping_mul(STEP);
        self
    }

    /// What the rules leave.
    fn rest(&self) -> f64 {
        (1.0 - self.rules.iter().map(|rule| rule.share).sum::<f64>()).max(0.0)
    }

    fn group(&self, endpoints: &ReadySet<'_>) -> Grouped<B> {
        // The rest is 0 and stands in for the others first.
        let shares = std::iter::once(self.rest()).chain(self.rules.iter().map(|rule| rule.share));
        let mut parts: Vec<_> =
            shares.map(|share| Part { share, ..Part::default() }).enumerate().collect();
        let part_of = |instance| {
            self.rules.iter().position(|rule| (rule.applies)(instance)).map_or(0, |at| at + 1)
        };
        for (at, member) in endpoints.iter().enumerate() {
            parts[part_of(member.instance())].1.ready.push(at);
        }
        for member in endpoints.not_ready() {
            parts[part_of(member.instance())].1.not_ready.push(member.clone());
        }
        let rest_is_there =
            parts[0].1.ready.iter().any(|&at| !endpoints[at].instance().is_draining());
        if rest_is_there {
            // What a rule cannot use goes to the rest, and not to all in proportion.
            for at in 1..parts.len() {
                if parts[at].1.ready.iter().all(|&at| endpoints[at].instance().is_draining()) {
                    parts[0].1.share += std::mem::take(&mut parts[at].1.share);
                }
            }
        }
        Grouped::new(endpoints, parts, &self.kept)
    }

    /// The next number in 0..1.
    fn unit(&self, context: &PickContext<'_>) -> f64 {
        let ticket = self.start.wrapping_add(self.turns.of(context).wrapping_mul(STEP));
        (ticket >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl<B: Balancer + 'static> Balancer for Split<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let unit = self.unit(context);
        match Grouped::<B>::of(endpoints) {
            Some(grouped) => grouped.pick(unit, context),
            None => self.group(endpoints).pick(unit, context),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(self.group(endpoints).into_prepared(&self.kept))
    }
}

impl Split<Arc<dyn Balancer>> {
    /// From `share` and either `version` or `key` and `value`.
    pub(crate) fn from_options(
        options: &mut Options,
        make: impl Fn() -> Arc<dyn Balancer> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let share =
            options.take_parsed::<f64>("share")?.filter(|share| (0.0..=1.0).contains(share));
        let Some(share) = share else {
            return Err(
                Error::invalid_input("a share of 0 to 1 is needed").with_context("option", "share")
            );
        };
        let split = Self::new(make);
        let version = options.take_text("version")?;
        match (version, options.take_text("key")?, options.take("value")?) {
            (Some(version), None, None) => Ok(split.with_version(version, share)),
            (None, Some(key), Some(value)) => Ok(split.with_metadata(key, value, share)),
            _ => Err(Error::invalid_input("either a version, or a key and a value, is needed")
                .with_context("option", "version")),
        }
    }
}

impl<B> fmt::Debug for Split<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<_> = self.rules.iter().map(|rule| rule.share).collect();
        f.debug_struct("Split").field("shares", &shares).finish_non_exhaustive()
    }
}
