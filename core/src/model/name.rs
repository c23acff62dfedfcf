//! Names that stand in keys and paths of a registry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Error;
use crate::registry::redact;

/// The name of a service: 1 to 128 of `[A-Za-z0-9._-]`, neither `.` nor `..`.
///
/// What passes stands for itself in a key or a URL path of every registry, so no backend has to
/// escape it. Cloning copies a pointer.
///
/// ```
/// use fleetward_core::ServiceName;
/// assert_eq!(ServiceName::new("greeter")?.as_str(), "greeter");
/// assert!(ServiceName::new("a/b").is_err());
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything but the characters above.
    pub fn new(name: &str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let ok = (1..=128).contains(&name.len()) && name.bytes().all(allowed);
        if !ok || name == "." || name == ".." {
            return Err(Error::invalid_input(
                "a service's name has 1 to 128 letters, digits, '.', '_' or '-'",
            )
            .with_context("service", redact::length(name)));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(&name)
    }
}

impl From<&ServiceName> for ServiceName {
    fn from(name: &ServiceName) -> Self {
        name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_need_no_escaping_pass() {
        for good in ["a", "simple_grpc", "user.rpc", "A-1", "..."] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?}");
        }
    }
}
