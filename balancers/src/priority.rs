//! Levels of instances: the next one takes over as far as the better ones fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error, Instance};

use crate::draws::Draws;
use crate::groups::{GroupCache, Grouped, Part};

/// Sends calls to the best priority level, and moves them to the next ones as its instances fail.
///
/// Choose it for a standby: another data centre, a more expensive fleet. An instance's level is what
/// it says in its metadata under `priority`, 0 (the best) if it says nothing that is a number, or
/// what a [function](Self::with_level) says.
///
/// A level's health is 140 % of the part of its instances that are ready and healthy, at most 100 %
/// (so that a level with a few instances lost still carries everything). From the best level on, each
/// takes as much as it has health, until 100 % are reached:
///
/// | healthy at level 0 | to level 0 | to level 1, all healthy |
/// |---|---|---|
/// | 72 % | 100 % | 0 |
/// | 71 % | 99 % | 1 % |
/// | 50 % | 70 % | 30 % |
/// | 25 % | 35 % | 65 % |
///
/// If all levels together do not reach 100 %, their healths are scaled up to it, and a level with
/// less than half its instances healthy uses all that can be called, healthy or not. Not ready and
/// draining are two things: draining instances are not counted.
///
/// Each level has a balancer of its own. If a call must not go to any instance of its level, because
/// earlier attempts have tried them, another one stands in, the best first.
///
/// ```
/// use fleetward_balancers::{Priority, RoundRobin};
/// use fleetward_core::{Balancer, Instance, Metadata};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let standby = Metadata::new([("priority", "1")])?;
/// let members = [
///     Member::detached(Instance::new("10.0.0.1:80")?),
///     Member::detached(Instance::new("10.0.0.2:80")?.with_metadata(standby)),
/// ];
/// let balancer = Priority::new(RoundRobin::new);
/// assert_eq!(balancer.pick(&ReadySet::new(&members), &PickContext::new()), Some(0));
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// Source: Envoy's [priority levels](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority)
/// and [panic threshold](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold).
pub struct Priority<B> {
    level: Box<dyn Fn(&Instance) -> u32 + Send + Sync>,
    overprovisioning: u32,
    panic_threshold: u32,
    draws: Draws,
    kept: GroupCache<u32, B>,
}

impl<B: Balancer + 'static> Priority<B> {
    /// Levels from the metadata; `make` makes the balancer of a level.
    pub fn new(make: impl Fn() -> B + Send + Sync + 'static) -> Self {
        Self {
            level: Box::new(|instance| level_in(instance, "priority")),
            overprovisioning: 140,
            panic_threshold: 50,
            draws: Draws::default(),
            kept: GroupCache::new(make),
        }
    }

    /// Sets what an instance's level is; 0 is the best.
    #[must_use]
    pub fn with_level(mut self, level: impl Fn(&Instance) -> u32 + Send + Sync + 'static) -> Self {
        self.level = Box::new(level);
        self
    }

    /// Takes the level from the metadata under another key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Arc<str>>) -> Self {
        let key = key.into();
        self.with_level(move |instance| level_in(instance, &key))
    }

    /// Sets how many percent a healthy instance counts (default 140, at least 100, at most 10000).
    #[must_use]
    pub fn with_overprovisioning(mut self, percent: u32) -> Self {
        self.overprovisioning = percent.clamp(100, 10_000);
        self
    }

    /// Sets below how many percent healthy instances a level uses all, if the others cannot help
    /// (default 50, at most 100).
    #[must_use]
    pub fn with_panic_threshold(mut self, percent: u32) -> Self {
        self.panic_threshold = percent.min(100);
        self
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.draws = Draws::with_seed(seed);
        self
    }

    fn group(&self, endpoints: &ReadySet<'_>) -> Grouped<B> {
        let mut levels: BTreeMap<u32, Level> = BTreeMap::new();
        for (at, member) in endpoints.iter().enumerate() {
            if member.instance().is_draining() {
                continue;
            }
            let level = levels.entry((self.level)(member.instance())).or_default();
            level.total += 1;
            level.part.ready.push(at);
            if member.is_healthy() {
                level.healthy.push(at);
            }
        }
        for member in endpoints.not_ready() {
            let level = levels.entry((self.level)(member.instance())).or_default();
            level.total += 1;
            level.part.not_ready.push(member.clone());
        }
        self.set_shares(&mut levels);
        let parts = levels.into_iter().map(|(key, level)| (key, level.part));
        Grouped::new(endpoints, parts, &self.kept)
    }

    fn set_shares(&self, levels: &mut BTreeMap<u32, Level>) {
        let counts = |level: &Level| Counts {
            total: level.total,
            ready: level.part.ready.len(),
            healthy: level.healthy.len(),
        };
        let loads = loads(
            &levels.values().map(counts).collect::<Vec<_>>(),
            self.overprovisioning,
            self.panic_threshold,
        );
        for (level, load) in levels.values_mut().zip(loads) {
            level.part.share = load.percent;
            if !load.panics {
                level.part.ready = std::mem::take(&mut level.healthy);
            }
        }
    }
}

#[derive(Default)]
struct Level {
    /// Ready and not ready.
    total: usize,
    /// Those of the part's that are.
    healthy: Vec<usize>,
    part: Part,
}

/// The instances of a level.
#[derive(Clone, Copy)]
struct Counts {
    /// Ready or not ready, and not draining: at least one.
    total: usize,
    ready: usize,
    /// Of those that are ready.
    healthy: usize,
}

/// What a level gets.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Load {
    percent: f64,
    /// Healthy or not, all that can be called are used.
    panics: bool,
}

/// What each level gets, the best one first.
fn loads(levels: &[Counts], overprovisioning: u32, panic_threshold: u32) -> Vec<Load> {
    let health = |level: &Counts| {
        let percent = overprovisioning as usize * level.healthy / level.total.max(1);
        percent.min(100)
    };
    let total: usize = levels.iter().map(health).sum();
    let mut left = 100;
    let load = |level: &Counts| {
        if total == 0 {
            // Nothing is known to be good: all that can be called, in proportion to their number.
            let ready: usize = levels.iter().map(|level| level.ready).sum();
            return Load {
                percent: 100.0 * level.ready as f64 / ready.max(1) as f64,
                panics: true,
            };
        }
        if total < 100 {
            let percent = 100.0 * health(level) as f64 / total as f64;
            let panics = level.healthy * 100 < panic_threshold as usize * level.total;
            return Load { percent, panics };
        }
        let taken = health(level).min(left);
        left -= taken;
        Load { percent: taken as f64, panics: false }
    };
    levels.iter().map(load).collect()
}

fn level_in(instance: &Instance, key: &str) -> u32 {
    instance.metadata().get(key).and_then(|level| level.trim().parse().ok()).unwrap_or(0)
}

impl<B: Balancer + 'static> Balancer for Priority<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let unit = self.draws.unit();
        match Grouped::<B>::of(endpoints) {
            Some(grouped) => grouped.pick(unit, context),
            None => self.group(endpoints).pick(unit, context),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(self.group(endpoints).into_prepared(&self.kept))
    }
}

impl Priority<Arc<dyn Balancer>> {
    /// From `key`, `overprovisioning` and `panic_threshold`.
    pub(crate) fn from_options(
        options: &mut Options,
        make: impl Fn() -> Arc<dyn Balancer> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let mut balancer = Self::new(make);
        if let Some(key) = options.take_text("key")? {
            balancer = balancer.with_key(key);
        }
        let percent =
            |options: &mut Options, key, from, to| match options.take_parsed::<u32>(key)? {
                Some(percent) if percent < from || percent > to => {
                    Err(Error::invalid_input(format!("the option is {from} to {to} percent"))
                        .with_context("option", key))
                }
                percent => Ok(percent),
            };
        if let Some(percent) = percent(options, "overprovisioning", 100, 10_000)? {
            balancer = balancer.with_overprovisioning(percent);
        }
        if let Some(percent) = percent(options, "panic_threshold", 0, 100)? {
            balancer = balancer.with_panic_threshold(percent);
        }
        Ok(balancer)
    }
}

impl<B> fmt::Debug for Priority<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Priority")
            .field("overprovisioning", &self.overprovisioning)
            .field("panic_threshold", &self.panic_threshold)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of a hundred ready instances, with the number of healthy ones given.
    fn of<const N: usize>(healthy: [usize; N]) -> ([i64; N], [bool; N]) {
        let levels = healthy.map(|healthy| Counts { total: 100, ready: 100, healthy });
        let loads = loads(&levels, 140, 50);
        let at = |i: usize| loads[i];
        let percent = std::array::from_fn(|i| at(i).percent.round() as i64);
        (percent, std::array::from_fn(|i| at(i).panics))
    }

    #[test]
    fn levels_take_over_and_panic_as_envoy_s_do() {
        assert_eq!(of([72, 72]), ([100, 0], [false, false]));
        assert_eq!(of([71, 71]), ([99, 1], [false, false]));
        assert_eq!(of([50, 60]), ([70, 30], [false, false]));
        assert_eq!(of([25, 100]), ([35, 65], [false, false]));
        assert_eq!(of([25, 25]), ([50, 50], [true, true]));
        assert_eq!(of([5, 65]), ([7, 93], [true, false]));
        assert_eq!(of([20, 20, 10]), ([40, 40, 20], [true, true, true]));
        assert_eq!(of([25, 25, 50]), ([35, 35, 30], [false, false, false]));
    }

    #[test]
    fn where_nothing_is_healthy_all_that_can_be_called_are_used() {
        assert_eq!(of([0, 0]), ([50, 50], [true, true]));
        let level = |ready| Counts { total: 100, ready, healthy: 0 };
        let loads = loads(&[level(0), level(1), level(3)], 140, 50);
        assert_eq!(loads.iter().map(|load| load.percent).collect::<Vec<_>>(), [0.0, 25.0, 75.0]);
    }
}
