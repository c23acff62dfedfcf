//! A balancer that is chosen by name and can be made again and again.

use std::fmt;
use std::sync::Arc;

use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error};

use super::table::{Inner, Maker};
use crate::PeakEwma;

/// The most balancers that may stand in one another.
const MAX_DEPTH: usize = 8;

/// A balancer's name and options, of which it is known that they make a balancer; by
/// [`Balancers::named`](super::Balancers::named).
#[derive(Clone)]
pub struct Named {
    maker: Maker,
    options: Options,
    /// The balancer that it leaves the choice to, if it is of that kind.
    inner: Option<Box<Self>>,
    /// As [`by_name`](super::by_name) takes it.
    spec: String,
}

impl Named {
    /// Makes it once, and gives that along with it.
    pub(super) fn check(
        name: &str,
        maker: Maker,
        options: Options,
        inner: Option<Self>,
    ) -> Result<(Self, Arc<dyn Balancer>), Error> {
        let spec = spec(name, &options, inner.as_ref());
        let named = Self { maker, options, inner: inner.map(Box::new), spec };
        if named.depth() > MAX_DEPTH {
            return Err(too_deep());
        }
        let made = named.try_make().map_err(|error| error.with_context("balancer", name))?;
        Ok((named, made))
    }

    fn try_make(&self) -> Result<Arc<dyn Balancer>, Error> {
        let mut options = self.options.clone();
        let inner = self.inner.clone().map(|inner| Arc::new(move || inner.make()) as Inner);
        let made = self.maker.make(&mut options, inner)?;
        options.finish()?;
        Ok(made)
    }

    /// A new balancer. If one of your own cannot be made a second time, it is [`PeakEwma`].
    pub fn make(&self) -> Arc<dyn Balancer> {
        self.try_make().unwrap_or_else(|_| Arc::new(PeakEwma::new()))
    }

    /// The name and the options, as [`by_name`](super::by_name) takes them.
    pub fn as_str(&self) -> &str {
        &self.spec
    }

    fn depth(&self) -> usize {
        1 + self.inner.as_ref().map_or(0, |inner| inner.depth())
    }
}

pub(super) fn too_deep() -> Error {
    Error::invalid_input("too many balancers in one another")
}

/// Whether a balancer in so many others may hold one more.
pub(super) fn may_hold_another(depth: usize) -> bool {
    depth + 1 < MAX_DEPTH
}

fn spec(name: &str, options: &Options, inner: Option<&Named>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(options.left());
    if let Some(inner) = inner {
        query.append_pair("balancer", &inner.spec);
    }
    match query.finish() {
        query if query.is_empty() => name.to_owned(),
        query => format!("{name}?{query}"),
    }
}

impl Eq for Named {}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Named").field(&self.spec).finish()
    }
}
