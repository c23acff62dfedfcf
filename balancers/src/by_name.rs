//! The choice of a balancer by its name, for URLs and configuration.

use std::sync::Arc;

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
type Compose = fn(&mut Options, Inner) -> Result<Arc<dyn Balancer>, Error>;

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
    make(spec, MAX_DEPTH, Options::parse)
}

/// As [`by_name`], for a text that comes from a URL: an error does not name an unknown option, for it
/// may be a piece of a secret that was not escaped.
///
/// # Errors
/// As [`by_name`].
pub fn by_name_in_url(spec: &str) -> Result<Arc<dyn Balancer>, Error> {
    make(spec, MAX_DEPTH, Options::parse_redacted)
}

fn make(spec: &str, depth: usize, parse: fn(&str) -> Options) -> Result<Arc<dyn Balancer>, Error> {
    let (name, query) = spec.split_once('?').unwrap_or((spec, ""));
    let mut options = parse(query);
    let named = |error: Error| error.with_context("balancer", name);
    let made = if let Some((_, known, make)) = KNOWN.iter().find(|(known, ..)| *known == name) {
        options.only(known).map_err(named)?;
        make(&mut options).map_err(named)?
    } else if let Some((_, known, compose)) = COMPOSED.iter().find(|(known, ..)| *known == name) {
        options.only(&[*known, &["balancer"]].concat()).map_err(named)?;
        // Its error names the one inside that is wrong.
        let inner = Inner::take(&mut options, depth, parse)?;
        compose(&mut options, inner).map_err(named)?
    } else {
        let known: Vec<_> = names().collect();
        let message = format!("unknown balancer; known ones are: {}", known.join(", "));
        return Err(Error::invalid_input(message).with_context("balancer", redact::name(name)));
    };
    options.finish().map_err(named)?;
    Ok(made)
}

/// The balancer in another one: made once already, and again for each group.
struct Inner {
    spec: String,
    depth: usize,
}

impl Inner {
    fn take(
        options: &mut Options,
        depth: usize,
        parse: fn(&str) -> Options,
    ) -> Result<Self, Error> {
        let spec = options.take("balancer")?.unwrap_or_else(|| "peak_ewma".to_owned());
        let Some(depth) = depth.checked_sub(1).filter(|&depth| depth > 0) else {
            return Err(Error::invalid_input("too many balancers in one another"));
        };
        make(&spec, depth, parse)?;
        Ok(Self { spec, depth })
    }

    fn make(&self) -> Arc<dyn Balancer> {
        // What could be made once can be made again.
        make(&self.spec, self.depth, Options::parse).unwrap_or_else(|_| Arc::new(PeakEwma::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_makes_a_balancer() {
        for name in names() {
            let needed = match name {
                "split" => "?version=v2&share=0.05",
                "zone_aware" => "?zone=eu-1a",
                "maglev" | "ring_hash" => "?header=user",
                _ => "",
            };
            let made = by_name(&format!("{name}{needed}"));
            assert!(made.is_ok(), "{name}: {made:?}");
        }
    }

    #[test]
    fn options_reach_the_balancer_or_are_refused() {
        let made = |spec| format!("{:?}", by_name(spec).unwrap());
        assert!(made("ring_hash?header=user&min=7&max=9").contains("min: 7, max: 9"));
        assert!(made("ring_hash?header=user&min=9000").contains("min: 9000, max: 9000"));
        assert!(made("ring_hash?header=user&max=9").contains("min: 9, max: 9"));
        assert!(made("ring_hash?header=user&load=1.25").contains("1250000"));
        assert!(made("maglev?header=user&table=503&load=2").contains("size: 503"));
        assert!(made("maglev?header=user").contains("\"user\""));
        for (spec, part) in [
            ("ring_hash", "give header="),
            ("maglev?header=", "give header="),
            ("ring_hash?header=user&min=0", "min"),
            ("ring_hash?header=user&min=5&max=4", "max"),
            ("ring_hash?header=user&max=8388609", "8388608"),
            ("ring_hash?header=user&load=0.5", "load"),
            ("ring_hash?header=user&load=NaN", "load"),
            ("ring_hash?header=user&table=503", "table"),
            ("maglev?header=user&table=65536", "prime"),
            ("random?per_thread", "per_thread"),
            ("zone_aware?zone=", "zone"),
            ("priority?key=", "key"),
            ("split?share=0.5&version=", "version"),
            ("split?share=0.5&key=&value=x", "key"),
        ] {
            let error = by_name(spec).unwrap_err().to_string();
            assert!(error.contains(part), "{spec}: {error}");
        }
    }

    #[test]
    fn an_unknown_option_is_an_error_that_names_it() {
        let error = by_name("random?sed=1").unwrap_err().to_string();
        assert!(error.contains("sed") && error.contains("random"), "{error}");
        let error = by_name_in_url("split?share=1&version=v&balancer=random?sed=1").unwrap_err();
        assert_eq!(error.context("option"), Some("no. 1 of 1 (3 characters, not shown)"));
    }

    #[test]
    fn an_unknown_option_is_named_before_one_that_is_missing_or_wrong() {
        for spec in [
            "ring_hash?heder=user",
            "ring_hash?min=0&heder=user",
            "maglev?heder=user",
            "split?heder=0.5",
            "zone_aware?heder=eu-1a",
            "priority?overprovisioning=1&heder=x",
            "slow_start?least=7&heder=x",
            "zone_aware?zone=a&balancer=ring_hash?heder=user",
        ] {
            let error = by_name(spec).unwrap_err();
            assert_eq!(error.context("option"), Some("heder"), "{spec}: {error}");
            assert!(error.message().contains("known options are: "), "{spec}: {error}");
        }
        let error = by_name("split?share=0.5").unwrap_err().to_string();
        assert!(error.contains("is needed"), "{error}");
    }

    #[test]
    fn what_is_wrong_inside_is_an_error_outside() {
        for spec in ["slow_start?balancer=best", "priority?balancer=p2c?x=1", "split?share=2"] {
            assert!(by_name(spec).is_err(), "{spec}");
        }
        let inside = by_name("slow_start?balancer=priority?balancer=best").unwrap_err().to_string();
        assert!(inside.contains("(balancer=best)"), "{inside}");
        let nested = |levels| format!("{}p2c", "slow_start?balancer=".repeat(levels));
        assert!(by_name(&nested(7)).is_ok());
        for levels in [8, 100_000] {
            let error = by_name(&nested(levels)).unwrap_err().to_string();
            assert!(error.contains("too many") && error.len() < 2000, "{error}");
        }
    }
}
