//! The built-in balancers, their options, and what makes each.

use std::sync::Arc;

use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error};

use crate::{
    LeastRequest, Maglev, P2c, PeakEwma, Priority, Random, RingHash, RoundRobin, SlowStart, Split,
    WeightedRandom, WeightedRoundRobin, ZoneAware,
};

type Made = Result<Arc<dyn Balancer>, Error>;

/// Makes a balancer from its options; what it does not take is an error afterwards.
type Make = fn(&mut Options) -> Made;

/// Makes one more of the balancers that another one leaves the choice to.
pub(super) type Inner = Arc<dyn Fn() -> Arc<dyn Balancer> + Send + Sync>;

/// As [`Make`], for one that leaves the choice to balancers of the kind that is given.
type Compose = fn(&mut Options, Inner) -> Made;

/// Makes a balancer of a program's own from its options.
pub(super) type MakeOwn = dyn Fn(&mut Options) -> Made + Send + Sync;

/// What makes a balancer, and the options that it has.
#[derive(Clone)]
pub(super) enum Maker {
    Simple(&'static [&'static str], Make),
    Composed(&'static [&'static str], Compose),
    Own(Arc<MakeOwn>),
}

impl Maker {
    pub(super) fn is_composed(&self) -> bool {
        matches!(self, Self::Composed(..))
    }

    /// Says what options there are beside `balancer`, before one that is missing is asked for. Those of a program's
    /// own are not known before.
    pub(super) fn only(&self, options: &mut Options) -> Result<(), Error> {
        match self {
            Self::Simple(known, _) => options.only(known),
            Self::Composed(known, _) => options.only(&[*known, &["balancer"]].concat()),
            Self::Own(_) => Ok(()),
        }
    }

    /// Of one that is composed, with a balancer to hold.
    pub(super) fn make(&self, options: &mut Options, inner: Option<Inner>) -> Made {
        match (self, inner) {
            (Self::Simple(_, make), _) => make(options),
            (Self::Own(make), _) => make(options),
            (Self::Composed(_, compose), Some(inner)) => compose(options, inner),
            (Self::Composed(..), None) => Err(Error::invalid_input("it needs another balancer")),
        }
    }
}

type Row = (&'static str, Maker);

const fn simple(name: &'static str, known: &'static [&'static str], make: Make) -> Row {
    (name, Maker::Simple(known, make))
}

const fn composed(name: &'static str, known: &'static [&'static str], compose: Compose) -> Row {
    (name, Maker::Composed(known, compose))
}

pub(super) static BUILT_IN: [Row; 13] = [
    simple("least_request", &["bias", "choices"], |options| {
        Ok(Arc::new(LeastRequest::from_options(options)?))
    }),
    simple("maglev", &["header", "load", "table"], |options| {
        Ok(Arc::new(Maglev::from_options(options)?))
    }),
    simple("p2c", &[], |_| Ok(Arc::new(P2c::new()))),
    simple("peak_ewma", &["choices"], |options| Ok(Arc::new(PeakEwma::from_options(options)?))),
    simple("random", &[], |_| Ok(Arc::new(Random::new()))),
    simple("ring_hash", &["header", "load", "max", "min"], |options| {
        Ok(Arc::new(RingHash::from_options(options)?))
    }),
    simple("round_robin", &[], |_| Ok(Arc::new(RoundRobin::new()))),
    simple("weighted_random", &[], |_| Ok(Arc::new(WeightedRandom::new()))),
    simple("weighted_round_robin", &[], |_| Ok(Arc::new(WeightedRoundRobin::new()))),
    composed("priority", &["key", "overprovisioning", "panic_threshold"], |options, inner| {
        Ok(Arc::new(Priority::from_options(options, move || inner())?))
    }),
    composed("slow_start", &["aggression", "least", "window"], |options, inner| {
        Ok(Arc::new(SlowStart::from_options(options, inner())?))
    }),
    composed("split", &["key", "share", "value", "version"], |options, inner| {
        Ok(Arc::new(Split::from_options(options, move || inner())?))
    }),
    composed("zone_aware", &["min_size", "zone"], |options, inner| {
        Ok(Arc::new(ZoneAware::from_options(options, move || inner())?))
    }),
];
