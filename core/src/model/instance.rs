//! One running copy of a service.

use std::fmt;
use std::sync::Arc;

use crate::model::Tags;
use crate::{Address, Error, Metadata};

/// The identity of an instance within its service: the id that it gives itself, and where it listens.
///
/// Two entries of a registry with the same id and address are one instance, two with the same id and different
/// addresses are two: somebody has copied a configuration, or a restarted process has left an entry behind. State
/// (connections, latencies, ejections) is keyed by this and survives every change of weight or metadata. Ids are
/// ordered by their text, then by the address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(
    /// The id; behind it, after a NUL, host and port, unless they follow from the id. No id has a NUL, so this is
    /// ordered as a pair would be.
    Arc<str>,
);

impl InstanceId {
    /// Takes an id of 1 to 256 bytes without control characters.
    fn new(id: &str, address: &Address) -> Result<Self, Error> {
        if !(1..=256).contains(&id.len()) || id.chars().any(char::is_control) {
            return Err(Error::invalid_input(
                "an instance's id has 1 to 256 bytes and no control character",
            ));
        }
        let authority = address.authority();
        if id == authority || id == address.to_string() {
            return Ok(Self(id.into()));
        }
        Ok(Self(format!("{id}\0{authority}").into()))
    }

    /// The id as text. Another instance at another address may have the same one.
    pub fn as_str(&self) -> &str {
        self.0.split_once('\0').map_or(&self.0, |(id, _)| id)
    }

    /// A text that no other instance of the service has: for tables and for hashing. It is not for people: it may
    /// hold a NUL.
    pub fn as_key(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// How an instance is, as far as its registry knows. From the worst to the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Health {
    /// An operator has taken it out of service for a while.
    Maintenance,
    /// It must not get calls.
    Unhealthy,
    /// It takes calls, and not as many as it should.
    Degraded,
    /// The registry does not say.
    #[default]
    Unknown,
    /// It is well.
    Healthy,
}

impl Health {
    const ALL: [Self; 5] =
        [Self::Maintenance, Self::Unhealthy, Self::Degraded, Self::Unknown, Self::Healthy];

    /// As text: `healthy` and so on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Unhealthy => "unhealthy",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Health {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|health| health.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid_input(format!("health is one of: {names}"))
        })
    }
}

/// One running copy of a service: where it listens, and what a balancer may want to know.
///
/// ```
/// use fleetward_core::Instance;
/// let instance = Instance::new("10.0.0.1:8080")?.with_weight(3).with_zone("eu-1a");
/// assert_eq!(instance.id().as_str(), "10.0.0.1:8080");
/// assert!(!instance.is_draining());
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    id: InstanceId,
    address: Address,
    weight: u32,
    health: Health,
    zone: Option<Arc<str>>,
    version: Option<Arc<str>>,
    tags: Tags,
    metadata: Metadata,
}

impl Instance {
    /// The weight of an instance that does not say.
    pub const DEFAULT_WEIGHT: u32 = 1;

    /// An instance at `address` (`"10.0.0.1:80"`, a [`SocketAddr`](std::net::SocketAddr) or an
    /// [`Address`]), whose id is the address as text.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an address that no client could dial.
    pub fn new<A>(address: A) -> Result<Self, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address = address.try_into()?;
        Ok(Self {
            id: InstanceId::new(&address.to_string(), &address)?,
            address,
            weight: Self::DEFAULT_WEIGHT,
            health: Health::default(),
            zone: None,
            version: None,
            tags: Tags::default(),
            metadata: Metadata::default(),
        })
    }

    /// Gives the instance an id of its own, of 1 to 256 bytes without control characters.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) otherwise.
    pub fn with_id(mut self, id: &str) -> Result<Self, Error> {
        self.id = InstanceId::new(id, &self.address)?;
        Ok(self)
    }

    /// Sets the share of traffic relative to the others; 0 = drain: no new call.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the failure domain that the instance stands in.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets the version of the program that runs.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets what the registry says of its health. It does not decide on calls: that does the weight.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Replaces the tags.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// Replaces the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The identity within the service.
    #[inline]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The share of traffic relative to the others; 0 = drain.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether it takes no new call (weight 0).
    pub fn is_draining(&self) -> bool {
        self.weight == 0
    }

    /// The failure domain.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The version of the program.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What the registry says of its health.
    pub fn health(&self) -> Health {
        self.health
    }

    /// The tags.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Free-form facts.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(address: &str, id: &str) -> InstanceId {
        Instance::new(address).unwrap().with_id(id).unwrap().id().clone()
    }

    #[test]
    fn the_same_id_at_two_addresses_is_two_instances_and_a_scheme_is_no_other_address() {
        let (one, other) = (id("10.0.0.1:80", "web"), id("10.0.0.2:80", "web"));
        assert!(one != other && one < other && one.as_key() != other.as_key());
        assert_eq!(
            (one.as_str(), one.to_string(), format!("{one:?}")),
            ("web", "web".into(), "\"web\"".into())
        );
        assert_eq!(one, id("http://10.0.0.1:80", "web"));
        // Ordered by the text first.
        assert!(other < id("10.0.0.1:80", "web ") && other < id("10.0.0.1:80", "weba"));
        for address in ["10.0.0.1:80", "http://10.0.0.1:80", "[::1]:80"] {
            let instance = Instance::new(address).unwrap();
            assert_eq!(instance.id().as_key(), address);
            assert_eq!(*instance.id(), id(address, address));
        }
        assert_eq!(id("http://10.0.0.1:80", "10.0.0.1:80"), id("10.0.0.1:80", "10.0.0.1:80"));
        assert_ne!(id("10.0.0.2:80", "10.0.0.1:80"), id("10.0.0.1:80", "10.0.0.1:80"));
        for bad in ["", "a\0b", "a\nb", &"x".repeat(257)] {
            assert!(Instance::new("10.0.0.1:80").unwrap().with_id(bad).is_err(), "{bad:?}");
        }
    }
}
