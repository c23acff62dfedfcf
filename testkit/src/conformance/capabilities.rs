//! What a backend can do, as far as that differs from one to the next.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use fleetward_core::RegisterOptions;

/// Something that not every backend can do, or that a test cannot do to every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Instances can be registered through the backend. Without it,
    /// [`Subject::put`](super::Subject::put) and [`remove`](super::Subject::remove) are used.
    Register,
    /// A lease tells its own registration from one that another process wrote in its place.
    Ownership,
    /// The backend tells of a loss without being asked:
    /// [`Registry::lost`](fleetward_core::registration::Registry::lost). To begin with, none is expected to.
    TellsLoss,
    /// Weights come back, those of [`Capabilities::with_weights`].
    Weights,
    /// The zone comes back.
    Zone,
    /// The version comes back.
    Version,
    /// Metadata come back.
    Metadata,
    /// An id that is not the address comes back.
    Ids,
    /// The scheme of an address comes back.
    Schemes,
    /// Service names with every character that a name may have.
    OddNames,
    /// Instances with IPv6 addresses.
    Ipv6,
    /// 1,000 instances of one service.
    Thousand,
    /// One instance may stand under two keys.
    Duplicates,
    /// The hooks [`write_raw`](super::Subject::write_raw),
    /// [`delete_raw`](super::Subject::delete_raw) and [`encoded`](super::Subject::encoded).
    RawWrites,
    /// The hook [`keys`](super::Subject::keys).
    Keys,
    /// The hook [`lose_lease`](super::Subject::lose_lease).
    LoseLease,
    /// The hook [`kill_watches`](super::Subject::kill_watches).
    KillWatches,
    /// The hooks [`stop`](super::Subject::stop) and [`start`](super::Subject::start).
    Restart,
    /// The hooks [`address`](super::Subject::address) and [`open_at`](super::Subject::open_at),
    /// so that the suite can put a [proxy](crate::proxy) in between.
    Proxy,
}

/// What a backend can do, and how long it takes.
///
/// To begin with, everything is expected that the core's types can say, and no hook is there:
///
/// ```
/// use std::time::Duration;
/// use fleetward_testkit::conformance::{Capabilities, Capability};
/// let capabilities = Capabilities::new()
///     .without(Capability::Zone, "the format has no place for it")
///     .with(Capability::RawWrites)
///     .with_ttl(Duration::from_secs(2));
/// assert!(!capabilities.has(Capability::Zone));
/// ```
#[derive(Clone, Debug)]
#[must_use]
#[non_exhaustive]
pub struct Capabilities {
    missing: BTreeMap<Capability, Cow<'static, str>>,
    /// The shortest time to live that registrations can be tested with.
    pub ttl: Duration,
    /// How long after its time to live an entry may still be seen.
    pub expiry_slack: Duration,
    /// The weights that can be written.
    pub weights: RangeInclusive<u32>,
    /// How long a server that does not answer any more may go unnoticed.
    pub silence: Duration,
    /// How long to wait for what should happen at once. A failing case waits for so long.
    pub patience: Duration,
    /// What the keys of the metadata begin with that the backend adds to every instance.
    pub added_metadata: Option<Cow<'static, str>>,
}

/// Each with the reason why it is missing unless the subject says otherwise.
const MISSING: [(Capability, &str); 7] = [
    (Capability::TellsLoss, "the registry is only asked"),
    (Capability::RawWrites, "the subject has no hooks to write by hand"),
    (Capability::Keys, "the subject has no hook to count keys"),
    (Capability::LoseLease, "the subject has no hook to lose a lease"),
    (Capability::KillWatches, "the subject has no hook to kill watches"),
    (Capability::Restart, "the subject has no hooks to stop a server"),
    (Capability::Proxy, "the subject has no server to put a proxy in front of"),
];

impl Capabilities {
    /// Everything that the core's types can say, and no hook.
    pub fn new() -> Self {
        Self {
            missing: MISSING.into_iter().map(|(hook, why)| (hook, why.into())).collect(),
            ttl: RegisterOptions::MIN_TTL,
            expiry_slack: Duration::from_secs(2),
            weights: 0..=u32::MAX,
            silence: Duration::from_secs(10),
            patience: Duration::from_secs(10),
            added_metadata: None,
        }
    }

    /// Adds one.
    pub fn with(mut self, capability: Capability) -> Self {
        self.missing.remove(&capability);
        self
    }

    /// Takes one away; the report gives the reason.
    pub fn without(mut self, capability: Capability, why: impl Into<Cow<'static, str>>) -> Self {
        self.missing.insert(capability, why.into());
        self
    }

    /// Sets the time to live to test with, at least [`RegisterOptions::MIN_TTL`]. The shorter, the
    /// quicker; long enough for a busy machine to renew in time.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.max(RegisterOptions::MIN_TTL);
        self
    }

    /// Sets how long after its time to live an entry may still be seen. Default: 2 s.
    pub fn with_expiry_slack(mut self, expiry_slack: Duration) -> Self {
        self.expiry_slack = expiry_slack;
        self
    }

    /// Sets which weights can be written. Default: all.
    pub fn with_weights(mut self, weights: RangeInclusive<u32>) -> Self {
        self.weights = weights;
        self
    }

    /// Sets how long a server that does not answer any more may go unnoticed. Default: 10 s.
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Sets what the keys of the metadata begin with that the backend adds to every instance:
    /// where it was found, say. Default: it adds none.
    pub fn with_added_metadata(mut self, prefix: impl Into<Cow<'static, str>>) -> Self {
        self.added_metadata = Some(prefix.into());
        self
    }

    /// Sets how long to wait for what should happen at once. Default: 10 s.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether the backend has it.
    pub fn has(&self, capability: Capability) -> bool {
        !self.missing.contains_key(&capability)
    }

    /// Why the backend has it not.
    pub fn why_not(&self, capability: Capability) -> Option<&str> {
        self.missing.get(&capability).map(AsRef::as_ref)
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::new()
    }
}
