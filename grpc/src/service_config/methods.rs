//! Which configuration a method has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use fleetward_core::Error;

use super::MethodConfig;
use super::json::Node;

/// Configurations by what they are for. A call looks up at most two borrowed parts of its own path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Methods<T = MethodConfig> {
    /// By `/service/method`, and by `/service/` for the others of a service.
    by_path: HashMap<Box<str>, Arc<T>>,
    rest: Option<Arc<T>>,
    nothing: Arc<T>,
}

impl<T> Methods<T> {
    pub(crate) fn get(&self, path: &str) -> &Arc<T> {
        if self.by_path.is_empty() {
            return self.rest.as_ref().unwrap_or(&self.nothing);
        }
        let service = || self.by_path.get(&path[..=path.rfind('/')?]);
        let found = self.by_path.get(path).or_else(service).or(self.rest.as_ref());
        found.unwrap_or(&self.nothing)
    }
}

impl Methods {
    /// The same with what `f` makes of each configuration.
    pub(crate) fn map<U>(&self, f: impl Fn(&MethodConfig) -> U) -> Methods<U> {
        let f = |config: &Arc<MethodConfig>| Arc::new(f(config));
        Methods {
            by_path: self.by_path.iter().map(|(path, config)| (path.clone(), f(config))).collect(),
            rest: self.rest.as_ref().map(f),
            nothing: f(&self.nothing),
        }
    }

    /// Makes other configurations of those of a method, of all of a service, or of all there are.
    pub(crate) fn change(&mut self, name: &MethodName, f: impl Fn(&MethodConfig) -> MethodConfig) {
        let change = |config: &mut Arc<MethodConfig>| *config = Arc::new(f(config));
        match name {
            MethodName::Method(path) => {
                let mut config = self.get(path).clone();
                change(&mut config);
                self.by_path.insert(path.clone(), config);
            }
            MethodName::Service(prefix) => {
                let of_service =
                    self.by_path.iter_mut().filter(|(path, _)| path.starts_with(&**prefix));
                of_service.for_each(|(_, config)| change(config));
                let rest = self.rest.as_ref().unwrap_or(&self.nothing);
                self.by_path.entry(prefix.clone()).or_insert_with(|| Arc::new(f(rest)));
            }
            MethodName::All => {
                self.by_path.values_mut().for_each(change);
                self.rest = Some(Arc::new(f(self.rest.as_ref().unwrap_or(&self.nothing))));
            }
        }
    }

    /// Errors say what is wrong with the name.
    pub(super) fn insert(
        &mut self,
        name: Name<'_>,
        config: Arc<MethodConfig>,
    ) -> Result<(), &'static str> {
        const TWICE: &str = "is named before; a name can stand only once";
        let path = match name {
            Name { service: "", method: "" } => {
                return match self.rest.replace(config) {
                    None => Ok(()),
                    Some(_) => Err(TWICE),
                };
            }
            Name { service: "", .. } => return Err("has a method, but no service"),
            Name { service, method } => format!("/{service}/{method}"),
        };
        match self.by_path.entry(path.into()) {
            Entry::Vacant(place) => {
                place.insert(config);
                Ok(())
            }
            Entry::Occupied(_) => Err(TWICE),
        }
    }
}

/// Which methods are meant.
#[derive(Clone, Debug)]
pub(crate) enum MethodName {
    /// `/service/method`
    Method(Box<str>),
    /// `/service/`
    Service(Box<str>),
    All,
}

impl MethodName {
    /// `/greet.Greeter/Hello`, `greet.Greeter`, or `*`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why| {
            let message = format!("a method {why}, a service as greet.Greeter, all as *");
            Error::invalid_input(message).with_context("method", text)
        };
        Ok(match text {
            "*" => Self::All,
            path if path.starts_with('/') => {
                Name::of_path(path).map_err(wrong)?;
                Self::Method(path.into())
            }
            service if service.is_empty() || service.contains(['/', '*', ' ']) => {
                return Err(wrong("is named by the path of its calls, as /greet.Greeter/Hello"));
            }
            service => Self::Service(format!("/{service}/").into()),
        })
    }
}

/// A method, without `method` a service, without both everything.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'a str,
}

impl<'a> Name<'a> {
    pub(super) const REST: Name<'static> = Name { service: "", method: "" };

    /// The method that calls of this path are for.
    pub(super) fn of_path(path: &'a str) -> Result<Self, &'static str> {
        let parts = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
        match parts {
            Some((service, method)) if !service.is_empty() && !method.is_empty() => {
                Ok(Self { service, method })
            }
            _ => Err("is named by the path of its calls, as /greet.Greeter/Hello"),
        }
    }

    pub(super) fn of_service(service: &'a str) -> Result<Self, &'static str> {
        if service.is_empty() || service.starts_with('/') || service.ends_with('/') {
            return Err("is named with its package and without slashes, as greet.Greeter");
        }
        Ok(Self { service, method: "" })
    }

    pub(super) fn read(node: &Node<'a>) -> Result<Self, Error> {
        let part = |name| Ok::<_, Error>(node.get(name, Node::text)?.unwrap_or_default());
        Ok(Self { service: part("service")?, method: part("method")? })
    }
}
