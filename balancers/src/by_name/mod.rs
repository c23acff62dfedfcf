//! The choice of a balancer by its name, for URLs and configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use fleetward_core::registry::{Options, redact};
use fleetward_core::{Balancer, Error};

use crate::{
    LeastRequest, Maglev, P2c, PeakEwma, Priority, Random, RingHash, RoundRobin, SlowStart, Split,
    WeightedRandom, WeightedRoundRobin, ZoneAware,
};

/// Makes a balancer from its options; what it does not take is an error afterwards.
type Make = fn(&mut Options) -> Result<Arc<dyn Balancer>, Error>;

/// A name, the options that there are, and what makes the balancer.
const KNOWN: &[(&str, &[&str], Make)] = &[
    ("least_request", &["bias", "choices"], |options| {
        Ok(Arc::new(LeastRequest::from_options(options)?))
    }),
    ("maglev", &["header", "load", "table"], |options| {
        Ok(Arc::new(Maglev::from_options(options)?))
    }),
    ("p2c", &[], |_| Ok(Arc::new(P2c::new()))),
    ("peak_ewma", &["choices"], |options| Ok(Arc::new(PeakEwma::from_options(options)?))),
    ("random", &[], |_| Ok(Arc::new(Random::new()))),
    ("ring_hash", &["header", "load", "max", "min"], |options| {
        Ok(Arc::new(RingHash::from_options(options)?))
    }),
    ("round_robin", &[], |_| Ok(Arc::new(RoundRobin::new()))),
    ("weighted_random", &[], |_| Ok(Arc::new(WeightedRandom::new()))),
    ("weighted_round_robin", &[], |_| Ok(Arc::new(WeightedRoundRobin::new()))),
];

/// As [`Make`], for one that leaves the choice to balancers of the kind that is given.
type Compose = fn(&mut Options, Named) -> Result<Arc<dyn Balancer>, Error>;

/// As [`KNOWN`]; the balancer inside is an option of each.
const COMPOSED: &[(&str, &[&str], Compose)] = &[
    ("priority", &["key", "overprovisioning", "panic_threshold"], |options, inner| {
        Ok(Arc::new(Priority::from_options(options, move || inner.make())?))
    }),
    ("slow_start", &["aggression", "least", "window"], |options, inner| {
        Ok(Arc::new(SlowStart::from_options(options, inner.make())?))
    }),
    ("split", &["key", "share", "value", "version"], |options, inner| {
        Ok(Arc::new(Split::from_options(options, move || inner.make())?))
    }),
    ("zone_aware", &["min_size", "zone"], |options, inner| {
        Ok(Arc::new(ZoneAware::from_options(options, move || inner.make())?))
    }),
];

/// So many balancers may stand in one another.
const MAX_DEPTH: usize = 8;

/// Every name that [`by_name`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, ..)| *name).chain(COMPOSED.iter().map(|(name, ..)| *name))
}

/// The balancer of that name, with options as in a URL's query: `ring_hash?header=user&min=1024`.
///
/// Those that leave the choice to another one (`priority`, `slow_start`, `split`, `zone_aware`) take
/// it as the option `balancer`, which is such a text again and by default `peak_ewma`. A `&` in it is
/// written `%26`, as anywhere in a query: `slow_start?window=60s&balancer=least_request?choices=3%26bias=2`.
///
/// ```
/// use fleetward_balancers::by_name;
/// assert!(by_name("round_robin").is_ok());
/// assert!(by_name("zone_aware?zone=eu-1a&balancer=slow_start?window=60s").is_ok());
/// let error = by_name("best").unwrap_err();
/// assert!(error.to_string().contains("round_robin"));
/// ```
///
/// # Errors
/// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for an unknown name, an unknown option,
/// a value that cannot be, or more than eight balancers in one another; the message lists the known
/// ones.
pub fn by_name(spec: &str) -> Result<Arc<dyn Balancer>, Error> {
    Balancers::built_in().by_name(spec)
}

/// Makes a balancer of a program's own from its options.
type MakeOwn = dyn Fn(&mut Options) -> Result<Arc<dyn Balancer>, Error> + Send + Sync;

/// The balancers that can be chosen by name: the built-in ones, and your own.
///
/// Give it to what reads names: `Registries::with_balancers` for URLs, `ServiceConfig::parse_with` for service
/// configs. There is no global state to register anything in. A clone shares the balancers' makers, not the balancers:
/// each choice makes a new one.
///
/// ```
/// use fleetward_balancers::Balancers;
/// use fleetward_core::Balancer;
/// use fleetward_core::balancing::{PickContext, ReadySet};
///
/// /// Goes to the endpoint of that number, if there is one.
/// #[derive(Debug)]
/// struct Nth(usize);
/// impl Balancer for Nth {
///     fn pick(&self, ready: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
///         Some(self.0).filter(|at| *at < ready.len())
///     }
/// }
///
/// let balancers = Balancers::new()
///     .with_balancer("nth", |options| Ok(Nth(options.take_parsed("number")?.unwrap_or_default())));
/// assert!(balancers.by_name("nth?number=2").is_ok());
/// assert!(balancers.by_name("slow_start?window=60s&balancer=nth?number=2").is_ok());
/// assert!(balancers.by_name("nth?numbr=2").unwrap_err().to_string().contains("numbr"));
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Balancers {
    own: BTreeMap<String, Arc<MakeOwn>>,
}

static BUILT_IN: LazyLock<Balancers> = LazyLock::new(Balancers::new);

impl Balancers {
    /// The built-in balancers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, where it is only looked at.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Adds a balancer. It wins over a built-in one of the same name.
    ///
    /// `make` takes the options that it knows; what is left over is an error that names these.
    pub fn with_balancer<B: Balancer + 'static>(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&mut Options) -> Result<B, Error> + Send + Sync + 'static,
    ) -> Self {
        let make = move |options: &mut Options| -> Result<Arc<dyn Balancer>, Error> {
            Ok(Arc::new(make(options)?))
        };
        self.own.insert(name.into(), Arc::new(make));
        self
    }

    /// The names, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let built_in: Vec<&str> = names().filter(|name| !self.own.contains_key(*name)).collect();
        self.own.keys().map(String::as_str).chain(built_in)
    }

    /// The balancer of that name; see the function [`by_name`].
    ///
    /// # Errors
    /// As the function's.
    pub fn by_name(&self, spec: &str) -> Result<Arc<dyn Balancer>, Error> {
        self.make(spec, MAX_DEPTH, Options::parse)
    }

    /// As [`by_name`](Self::by_name), for a text that comes from a URL: an error does not name an unknown option, for
    /// it may be a piece of a secret that was not escaped.
    ///
    /// # Errors
    /// As [`by_name`](Self::by_name).
    pub fn by_name_in_url(&self, spec: &str) -> Result<Arc<dyn Balancer>, Error> {
        self.make(spec, MAX_DEPTH, Options::parse_redacted)
    }

    /// Checks that there is such a balancer, which can be made again and again.
    ///
    /// # Errors
    /// As [`by_name`](Self::by_name).
    pub fn named(&self, spec: impl Into<String>) -> Result<Named, Error> {
        Named::check(self, spec.into(), MAX_DEPTH, Options::parse)
    }

    fn make(
        &self,
        spec: &str,
        depth: usize,
        parse: fn(&str) -> Options,
    ) -> Result<Arc<dyn Balancer>, Error> {
        let (name, query) = spec.split_once('?').unwrap_or((spec, ""));
        let mut options = parse(query);
        let named = |error: Error| error.with_context("balancer", name);
        let made = if let Some(make) = self.own.get(name) {
            make(&mut options).map_err(named)?
        } else if let Some((_, known, make)) = KNOWN.iter().find(|(known, ..)| *known == name) {
            options.only(known).map_err(named)?;
            make(&mut options).map_err(named)?
        } else if let Some((_, known, compose)) = COMPOSED.iter().find(|(known, ..)| *known == name)
        {
            options.only(&[*known, &["balancer"]].concat()).map_err(named)?;
            let inner = options.take("balancer")?.unwrap_or_else(|| "peak_ewma".to_owned());
            let Some(depth) = depth.checked_sub(1).filter(|&depth| depth > 0) else {
                return Err(Error::invalid_input("too many balancers in one another"));
            };
            // Its error names the one inside that is wrong.
            let inner = Named::check(self, inner, depth, parse)?;
            compose(&mut options, inner).map_err(named)?
        } else {
            let known: Vec<_> = self.names().collect();
            let message = format!("unknown balancer; known ones are: {}", known.join(", "));
            return Err(Error::invalid_input(message).with_context("balancer", redact::name(name)));
        };
        options.finish().map_err(named)?;
        Ok(made)
    }
}

impl fmt::Debug for Balancers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancers").field("own", &self.own.keys()).finish_non_exhaustive()
    }
}

/// A balancer's name and options, of which it is known that they make a balancer; by [`Balancers::named`].
#[derive(Clone, Debug)]
pub struct Named {
    spec: String,
    balancers: Balancers,
    depth: usize,
}

impl Named {
    fn check(
        balancers: &Balancers,
        spec: String,
        depth: usize,
        parse: fn(&str) -> Options,
    ) -> Result<Self, Error> {
        balancers.make(&spec, depth, parse)?;
        Ok(Self { spec, balancers: balancers.clone(), depth })
    }

    /// A new balancer. If one of your own cannot be made a second time, it is [`PeakEwma`].
    pub fn make(&self) -> Arc<dyn Balancer> {
        let made = self.balancers.make(&self.spec, self.depth, Options::parse);
        made.unwrap_or_else(|_| Arc::new(PeakEwma::new()))
    }

    /// The name and the options, as they were given.
    pub fn as_str(&self) -> &str {
        &self.spec
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

#[cfg(test)]
mod tests;
