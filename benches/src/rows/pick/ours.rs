//! Our balancers, called directly and through `Balanced`.

use std::hint::black_box;
use std::sync::Arc;

use fleetward_balancers::{HashKey, Maglev, RingHash, by_name};
use fleetward_core::balancing::Prepared;
use fleetward_core::{Balanced, Balancer};

use super::subject::{Subject, with_workers};
use crate::error::Result;
use crate::measure::Contender;
use crate::members::{Members, Weights};
use crate::noop::{Endpoints, NoOp};

/// The name of a balancer that is called through `Balanced`.
pub(super) fn through(name: &str) -> String {
    format!("`Balanced::pick`, {name}")
}

/// A balancer to measure.
pub(crate) struct Ours {
    pub(crate) name: &'static str,
    pub(crate) weights: Weights,
    make: fn() -> Result<Arc<dyn Balancer>>,
}

/// All of them. Those that leave the choice to another one leave it to round robin, so that what they add
/// can be seen.
pub(crate) const ALL: &[Ours] = &[
    even("round_robin", || Ok(by_name("round_robin")?)),
    even("random", || Ok(by_name("random")?)),
    even("p2c", || Ok(by_name("p2c")?)),
    even("least_request", || Ok(by_name("least_request")?)),
    even("peak_ewma", || Ok(by_name("peak_ewma")?)),
    Ours { name: "peak_ewma, zipf", weights: Weights::Zipf, make: || Ok(by_name("peak_ewma")?) },
    Ours {
        name: "weighted_random, zipf",
        weights: Weights::Zipf,
        make: || Ok(by_name("weighted_random")?),
    },
    Ours {
        name: "weighted_random, one heavy",
        weights: Weights::OneHeavy,
        make: || Ok(by_name("weighted_random")?),
    },
    Ours {
        name: "weighted_round_robin, zipf",
        weights: Weights::Zipf,
        make: || Ok(by_name("weighted_round_robin")?),
    },
    Ours {
        name: "weighted_round_robin, one heavy",
        weights: Weights::OneHeavy,
        make: || Ok(by_name("weighted_round_robin")?),
    },
    even("maglev", || Ok(Arc::new(Maglev::new(key())))),
    even("ring_hash", || Ok(Arc::new(RingHash::new(key())))),
    even("zone_aware", || Ok(by_name("zone_aware?zone=eu-1a&balancer=round_robin")?)),
    even("priority", || Ok(by_name("priority?balancer=round_robin")?)),
    even("slow_start", || Ok(by_name("slow_start?balancer=round_robin")?)),
    even("split", || Ok(by_name("split?version=v2&share=0.05&balancer=round_robin")?)),
];

const fn even(name: &'static str, make: fn() -> Result<Arc<dyn Balancer>>) -> Ours {
    Ours { name, weights: Weights::Even, make }
}

/// The key is a number in the request.
fn key() -> HashKey {
    HashKey::number(|request: &u64| Some(*request))
}

/// A balancer with the set that it has prepared.
pub(crate) struct Picking {
    name: &'static str,
    balancer: Arc<dyn Balancer>,
    members: Arc<Members>,
    prepared: Option<Prepared>,
}

impl Picking {
    pub(crate) fn new(ours: &Ours, members: Arc<Members>) -> Result<Self> {
        let balancer = (ours.make)()?;
        let prepared = members.prepared(&*balancer);
        Ok(Self { name: ours.name, balancer, members, prepared })
    }

    /// `Balancer::pick` from the prepared set: a position.
    pub(crate) fn pick(&self, times: u64) {
        let set = self.members.set(self.prepared.as_ref());
        for key in 0..times {
            black_box(self.balancer.pick(black_box(&set), &self.members.context(&key)));
        }
    }
}

impl Subject for Picking {
    fn name(&self) -> &str {
        self.name
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        with_workers(self.name(), threads, || Box::new(|times| self.pick(times)))
    }
}

/// The whole pick: the newest set, the balancer's choice, a clone of the service, the call counted
/// in and out.
pub(crate) struct Through {
    name: String,
    balanced: Balanced<NoOp>,
    /// The endpointer's task lives in its runtime.
    _endpoints: Arc<Endpoints>,
}

impl Through {
    pub(crate) fn new(ours: &Ours, endpoints: Arc<Endpoints>) -> Result<Self> {
        let balanced = Balanced::new(endpoints.endpointer.clone(), (ours.make)()?);
        Ok(Self { name: through(ours.name), balanced, _endpoints: endpoints })
    }

    pub(crate) fn pick(&self, times: u64) {
        for key in 0..times {
            black_box(self.balanced.pick(&key));
        }
    }
}

impl Subject for Through {
    fn name(&self) -> &str {
        &self.name
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        with_workers(self.name(), threads, || Box::new(|times| self.pick(times)))
    }
}
