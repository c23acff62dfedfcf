//! The endpoints that are picked from.

use std::time::Duration;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::endpoints::{InFlight, Member, Outcome};
use fleetward_core::{Balancer, Error, Instance, Metadata};
use tokio::time::Instant;

/// How weights differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    Even,
    /// The k-th has 1/k of the first one's.
    Zipf,
    /// The first has a million times the others'.
    OneHeavy,
}

impl Weights {
    pub(crate) fn of(self, position: usize) -> u32 {
        match self {
            Self::Even => 1,
            Self::Zipf => (1_000_000 / (position + 1)).max(1) as u32,
            Self::OneHeavy => {
                if position == 0 {
                    1_000_000
                } else {
                    1
                }
            }
        }
    }
}

/// The share of the instances that cannot take a call, in percent.
pub(crate) const UNHEALTHY: [usize; 3] = [0, 50, 90];

/// Which ones: the same for every contender, spread over the list, never all of them.
pub(crate) fn is_unhealthy(position: usize, percent: usize) -> bool {
    position % 10 >= 10 - percent / 10
}

/// An instance at a position; addresses of 10.0.0.0/8, one port.
pub(crate) fn instance(position: usize, weights: Weights) -> Result<Instance, Error> {
    let [_, a, b, c] = (position as u32).to_be_bytes();
    let zone = if position.is_multiple_of(3) { "eu-1a" } else { "eu-1b" };
    let version = if position.is_multiple_of(20) { "v2" } else { "v1" };
    let instance = Instance::new(format!("10.{a}.{b}.{c}:80"))?;
    Ok(instance
        .with_weight(weights.of(position))
        .with_zone(zone)
        .with_version(version)
        .with_metadata(Metadata::default()))
}

/// Endpoints with a past: latencies that differ, and some calls under way.
pub(crate) struct Members {
    ready: Vec<Member>,
    not_ready: Vec<Member>,
    pub(crate) now: Instant,
    _under_way: Vec<InFlight>,
}

impl Members {
    pub(crate) fn new(size: usize, unhealthy: usize, weights: Weights) -> Result<Self, Error> {
        let (mut ready, mut not_ready, mut under_way) = (Vec::new(), Vec::new(), Vec::new());
        let start = Instant::now();
        for position in 0..size {
            let member = Member::detached(instance(position, weights)?);
            if is_unhealthy(position, unhealthy) {
                not_ready.push(member);
                continue;
            }
            let took = Duration::from_micros(500 + 37 * (position as u64 % 100));
            member.begin_at(start).finish_at(Outcome::Success, start + took);
            under_way.extend((0..position % 4).map(|_| member.begin_at(start)));
            ready.push(member);
        }
        Ok(Self { ready, not_ready, now: start + Duration::from_secs(1), _under_way: under_way })
    }

    pub(crate) fn prepared(&self, balancer: &dyn Balancer) -> Option<Prepared> {
        balancer.prepare(&self.set(None))
    }

    pub(crate) fn set<'a>(&'a self, prepared: Option<&'a Prepared>) -> ReadySet<'a> {
        ReadySet::new(&self.ready).with_not_ready(&self.not_ready).with_prepared(prepared)
    }

    /// What a pick knows of a call with this request.
    pub(crate) fn context<'a>(&self, key: &'a u64) -> PickContext<'a> {
        PickContext::new().with_request(key).with_now(self.now)
    }
}
