//! The choice of a balancer by its name, for URLs and configuration.

mod named;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use fleetward_core::registry::{Options, redact};
use fleetward_core::{Balancer, Error};

pub use self::named::Named;
use self::named::{may_hold_another, too_deep};
use self::table::{BUILT_IN, MakeOwn, Maker};

/// Every name that [`by_name`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
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

static NONE_OF_ONES_OWN: LazyLock<Balancers> = LazyLock::new(Balancers::new);

impl Balancers {
    /// The built-in balancers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, where it is only looked at.
    pub fn built_in() -> &'static Self {
        &NONE_OF_ONES_OWN
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
        Ok(self.read(spec, 0, Options::parse)?.1)
    }

    /// As [`by_name`](Self::by_name), for a text that comes from a URL: an error does not name an unknown option, for
    /// it may be a piece of a secret that was not escaped.
    ///
    /// # Errors
    /// As [`by_name`](Self::by_name).
    pub fn by_name_in_url(&self, spec: &str) -> Result<Arc<dyn Balancer>, Error> {
        Ok(self.read(spec, 0, Options::parse_redacted)?.1)
    }

    /// Checks that there is such a balancer, which can be made again and again.
    ///
    /// # Errors
    /// As [`by_name`](Self::by_name).
    pub fn named(&self, spec: &str) -> Result<Named, Error> {
        Ok(self.read(spec, 0, Options::parse)?.0)
    }

    /// As [`named`](Self::named), from a configuration that has the name and each option by itself, and the balancer
    /// that this one leaves the choice to.
    ///
    /// ```
    /// use fleetward_balancers::Balancers;
    /// let balancers = Balancers::built_in();
    /// let inner = balancers.choose("least_request", [("choices", "3")], None)?;
    /// let named = balancers.choose("slow_start", [("window", "60s")], Some(inner))?;
    /// assert_eq!(named, balancers.named("slow_start?window=60s&balancer=least_request?choices%3D3")?);
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_name`](Self::by_name).
    pub fn choose<K: Into<String>, V: Into<String>>(
        &self,
        name: &str,
        options: impl IntoIterator<Item = (K, V)>,
        inner: Option<Named>,
    ) -> Result<Named, Error> {
        Ok(self.check(name, options.into_iter().collect(), inner, 0, Options::parse)?.0)
    }

    fn read(&self, spec: &str, depth: usize, parse: fn(&str) -> Options) -> Checked {
        let (name, query) = spec.split_once('?').unwrap_or((spec, ""));
        self.check(name, parse(query), None, depth, parse)
    }

    /// One that stands in `depth` others. `parse` reads the options of the one inside, if that is text.
    fn check(
        &self,
        name: &str,
        mut options: Options,
        mut inner: Option<Named>,
        depth: usize,
        parse: fn(&str) -> Options,
    ) -> Checked {
        let maker = self.maker(name)?;
        let named = |error: Error| error.with_context("balancer", name);
        maker.only(&mut options).map_err(named)?;
        if maker.is_composed() && inner.is_none() {
            let text = options.take("balancer")?.unwrap_or_else(|| "peak_ewma".to_owned());
            if !may_hold_another(depth) {
                return Err(too_deep());
            }
            // Its error names the one inside that is wrong.
            inner = Some(self.read(&text, depth + 1, parse)?.0);
        }
        if !maker.is_composed() && inner.is_some() {
            return Err(named(Error::invalid_input("the balancer does not hold another one")));
        }
        Named::check(name, maker, options, inner)
    }

    fn maker(&self, name: &str) -> Result<Maker, Error> {
        if let Some(make) = self.own.get(name) {
            return Ok(Maker::Own(make.clone()));
        }
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(|(_, maker)| maker.clone()).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            let message = format!("unknown balancer; known ones are: {}", known.join(", "));
            Error::invalid_input(message).with_context("balancer", redact::name(name))
        })
    }
}

/// A balancer by name, and one that was made to check it.
type Checked = Result<(Named, Arc<dyn Balancer>), Error>;

impl fmt::Debug for Balancers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancers").field("own", &self.own.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
