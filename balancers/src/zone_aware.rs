//! Calls stay in their zone as far as its instances can carry them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error, Subscription};

use crate::draws::Draws;
use crate::groups::{GroupCache, Grouped, Part};

/// Sends as many calls to instances in the caller's own zone as these can carry, so that all
/// instances get about the same.
///
/// Choose it where calls across zones cost money or time. If the zone has at least as large a part
/// of the instances as of the callers, all calls stay. Else the part `instances / callers` of them
/// stays and the rest goes to the zones that have more instances than callers, in proportion to the
/// surplus. An example: of the callers 40, 40 and 20 % are in zones a, b and c, of the instances 25,
/// 50 and 25 %. A caller in a keeps 62.5 % of its calls there, and sends 25 % to b and 12.5 % to c.
///
/// However the callers are spread, a call leaves its zone when the instance there has more than twice
/// as many of this process' calls under way as one elsewhere: a zone is not held to what it cannot
/// carry.
///
/// Where the callers are is [given](Self::with_callers), or [read](Self::with_callers_of) from the
/// registry; if neither, they are taken to be spread evenly over all zones. Instances count by
/// weight, those that do not say their zone as a zone of their own. The zones are left out of account
/// while fewer than six instances are ready, and while so many are unhealthy that those are used too.
///
/// Each zone has a balancer of its own. If a call must not go to any instance of the zone that was
/// drawn, because earlier attempts have tried them, another zone stands in, the own one first.
///
/// ```
/// use fleetward_balancers::{PeakEwma, ZoneAware};
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let instance = |i, zone| Instance::new(format!("10.0.0.{i}:80")).unwrap().with_zone(zone);
/// let members: Vec<_> =
///     (1..=9).map(|i| Member::detached(instance(i, ["a", "b", "c"][i % 3]))).collect();
/// let balancer = ZoneAware::new("b", PeakEwma::new);
/// let picked = balancer.pick(&ReadySet::new(&members), &PickContext::new()).unwrap();
/// assert_eq!(members[picked].instance().zone(), Some("b"));
/// ```
///
/// Source: [Envoy's zone aware routing](https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/zone_aware).
#[derive(Debug)]
pub struct ZoneAware<B> {
    zone: Arc<str>,
    callers: Callers,
    min_size: usize,
    draws: Draws,
    kept: GroupCache<Key, B>,
}

/// The number of calls under way at an instance that makes another zone worth a look.
const BUSY: usize = 4;

/// How the callers are spread over zones.
#[derive(Debug)]
enum Callers {
    Evenly,
    Given(BTreeMap<Arc<str>, f64>),
    Of(Subscription),
}

/// A zone, or all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    All,
    Zone(Option<Arc<str>>),
}

impl<B: Balancer + 'static> ZoneAware<B> {
    /// For a caller in `zone`; `make` makes the balancer of a zone.
    pub fn new(zone: impl Into<Arc<str>>, make: impl Fn() -> B + Send + Sync + 'static) -> Self {
        Self {
            zone: zone.into(),
            callers: Callers::Evenly,
            min_size: 6,
            draws: Draws::default(),
            kept: GroupCache::new(make),
        }
    }

    /// Says how the callers are spread: a number for each zone, of any total. What is negative or
    /// not finite counts as 0.
    #[must_use]
    pub fn with_callers<Z: Into<Arc<str>>>(
        mut self,
        callers: impl IntoIterator<Item = (Z, f64)>,
    ) -> Self {
        let sane = |share: f64| if share.is_finite() { share.max(0.0) } else { 0.0 };
        self.callers =
            Callers::Given(callers.into_iter().map(|(zone, n)| (zone.into(), sane(n))).collect());
        self
    }

    /// Reads how the callers are spread from the view of their own service. It is read whenever the
    /// set of endpoints changes, so a change of the callers alone shows with a delay.
    #[must_use]
    pub fn with_callers_of(mut self, callers: Subscription) -> Self {
        self.callers = Callers::Of(callers);
        self
    }

    /// Sets with how many ready instances zones begin to count (default 6).
    #[must_use]
    pub fn with_min_size(mut self, min_size: usize) -> Self {
        self.min_size = min_size;
        self
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.draws = Draws::with_seed(seed);
        self
    }

    fn group(&self, endpoints: &ReadySet<'_>) -> Grouped<B> {
        let can_take = |at: &usize| !endpoints[*at].instance().is_draining();
        let counted = (0..endpoints.len()).filter(can_take).count();
        // An unhealthy one is in the set only where too few are healthy.
        let panicking = endpoints.iter().any(|member| !member.is_healthy());
        if counted < self.min_size || panicking {
            let all = Part {
                ready: (0..endpoints.len()).collect(),
                not_ready: endpoints.not_ready().to_vec(),
                share: 1.0,
            };
            return Grouped::new(endpoints, [(Key::All, all)], &self.kept);
        }
        let mut zones: BTreeMap<Option<&str>, Part> = BTreeMap::new();
        for (at, member) in endpoints.iter().enumerate() {
            let part = zones.entry(member.instance().zone()).or_default();
            part.ready.push(at);
            part.share += f64::from(member.instance().weight());
        }
        for member in endpoints.not_ready() {
            if let Some(part) = zones.get_mut(&member.instance().zone()) {
                part.not_ready.push(member.clone());
            }
        }
        self.set_shares(&mut zones);
        let own = zones.remove_entry(&Some(&*self.zone));
        let parts = own.into_iter().chain(zones);
        let parts = parts.map(|(zone, part)| (Key::Zone(zone.map(Into::into)), part));
        Grouped::new(endpoints, parts, &self.kept)
    }

    fn pick_from(
        &self,
        zones: &Grouped<B>,
        endpoints: &ReadySet<'_>,
        context: &PickContext<'_>,
    ) -> Option<usize> {
        let picked = zones.pick(self.draws.unit(), context)?;
        let busy = endpoints[picked].in_flight();
        if busy < BUSY || endpoints[picked].instance().zone() != Some(&*self.zone) {
            return Some(picked);
        }
        // The zone may have more callers than was thought.
        let elsewhere = zones.pick_beside_first(self.draws.unit(), context);
        Some(elsewhere.filter(|&at| busy > 2 * (endpoints[at].in_flight() + 1)).unwrap_or(picked))
    }

    /// Turns what each zone has of the instances into what it gets of this caller's calls.
    fn set_shares(&self, zones: &mut BTreeMap<Option<&str>, Part>) {
        let callers = self.callers(zones.keys().copied());
        let own = Some(&*self.zone);
        let total: f64 = zones.values().map(|part| part.share).sum();
        let instances_here = zones.get(&own).map_or(0.0, |part| part.share / total);
        let callers_here = callers.share(own);
        let stays =
            if instances_here >= callers_here { 1.0 } else { instances_here / callers_here };
        let mut surplus = 0.0;
        for (&zone, part) in zones.iter_mut().filter(|(zone, _)| **zone != own) {
            part.share = (part.share / total - callers.share(zone)).max(0.0);
            surplus += part.share;
        }
        for (&zone, part) in zones.iter_mut() {
            part.share = match surplus {
                _ if zone == own => stays,
                0.0 => 0.0,
                surplus => (1.0 - stays) * part.share / surplus,
            };
        }
    }

    fn callers<'a>(&'a self, zones: impl Iterator<Item = Option<&'a str>>) -> Spread {
        let mut spread = match &self.callers {
            Callers::Evenly => Spread::default(),
            Callers::Given(by_zone) => {
                Spread { total: by_zone.values().sum(), by_zone: by_zone.clone() }
            }
            Callers::Of(callers) => {
                let mut spread = Spread::default();
                for caller in callers.current().instances.iter() {
                    spread.add(caller.zone());
                }
                if spread.total > 0.0 && spread.share(Some(&self.zone)) == 0.0 {
                    // Here is one, registered or not.
                    spread.add(Some(&self.zone));
                }
                spread
            }
        };
        if spread.total == 0.0 {
            let named: BTreeSet<_> = zones.flatten().chain([&*self.zone]).collect();
            named.into_iter().for_each(|zone| spread.add(Some(zone)));
        }
        spread
    }
}

/// How many callers are in which zone.
#[derive(Debug, Default)]
struct Spread {
    by_zone: BTreeMap<Arc<str>, f64>,
    /// With those that do not say their zone.
    total: f64,
}

impl Spread {
    fn add(&mut self, zone: Option<&str>) {
        self.total += 1.0;
        if let Some(zone) = zone {
            *self.by_zone.entry(zone.into()).or_default() += 1.0;
        }
    }

    fn share(&self, zone: Option<&str>) -> f64 {
        zone.and_then(|zone| self.by_zone.get(zone)).map_or(0.0, |callers| callers / self.total)
    }
}

impl<B: Balancer + 'static> Balancer for ZoneAware<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        match Grouped::<B>::of(endpoints) {
            Some(grouped) => self.pick_from(grouped, endpoints, context),
            None => self.pick_from(&self.group(endpoints), endpoints, context),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(self.group(endpoints).into_prepared(&self.kept))
    }
}

impl ZoneAware<Arc<dyn Balancer>> {
    /// From `zone` and `min_size`.
    pub(crate) fn from_options(
        options: &mut Options,
        make: impl Fn() -> Arc<dyn Balancer> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let Some(zone) = options.take_text("zone")? else {
            return Err(Error::invalid_input("the caller's own zone is needed")
                .with_context("option", "zone"));
        };
        let min_size = options.take_parsed("min_size")?;
        let balancer = Self::new(zone, make);
        Ok(match min_size {
            Some(min_size) => balancer.with_min_size(min_size),
            None => balancer,
        })
    }
}
