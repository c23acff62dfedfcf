//! One running copy of a service.

use std::fmt;
use std::sync::Arc;

use crate::{Address, Error, Metadata};

/// The identity of an instance within its service. State (connections, latencies, ejections) is
/// keyed by it and survives every change of weight or metadata.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// Takes an id of 1 to 256 bytes without control characters.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) otherwise.
    pub fn new(id: &str) -> Result<Self, Error> {
        if !(1..=256).contains(&id.len()) || id.chars().any(char::is_control) {
            return Err(Error::invalid_input(
                "an instance's id has 1 to 256 bytes and no control character",
            ));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
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
    zone: Option<Arc<str>>,
    version: Option<Arc<str>>,
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
            id: InstanceId::new(&address.to_string())?,
            address,
            weight: Self::DEFAULT_WEIGHT,
            zone: None,
            version: None,
            metadata: Metadata::default(),
        })
    }

    /// Gives the instance an id of its own.
    ///
    /// # Errors
    /// As [`InstanceId::new`].
    pub fn with_id(mut self, id: &str) -> Result<Self, Error> {
        self.id = InstanceId::new(id)?;
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

    /// Free-form facts.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
