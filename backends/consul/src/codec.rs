//! Consul's formats: what is written when an instance registers, and how what others (and we)
//! wrote is read.

mod address;
mod health;
mod key;
mod read;
mod standing;
mod write;

pub(crate) use self::read::entries;
pub(crate) use self::standing::{Checks, Found};
pub(crate) use self::write::{Registration, service_id};

/// Keys of `Meta` that only this crate reads; none of them reaches an instance's metadata.
mod meta {
    /// The instance's own id, the same whichever agent it is registered at.
    pub(super) const ID: &str = "fleetward_id";
    /// Tells one registration from the next under the same id.
    pub(super) const LEASE: &str = "fleetward_lease";
    /// A weight that Consul's own field cannot hold: 0, or above 65535.
    pub(super) const WEIGHT: &str = "fleetward_weight";
    /// The scheme of the address.
    pub(super) const SCHEME: &str = "fleetward_scheme";
    /// What stands before a key of metadata that Consul would refuse, in hexadecimal.
    pub(super) const ESCAPED: &str = "fleetward_x_";
    pub(super) const OURS: &str = "fleetward_";
    pub(super) const ZONE: &str = "zone";
    pub(super) const VERSION: &str = "version";
}

/// Keys of an instance's metadata with what Consul knows of it.
mod fact {
    pub(super) const NODE: &str = "consul.node";
    pub(super) const DATACENTER: &str = "consul.datacenter";
    pub(super) const RANK: &str = "consul.rank";
    pub(super) const OURS: &str = "consul.";
}

/// The greatest weight that Consul takes.
const MAX_WEIGHT: u32 = 65_535;
