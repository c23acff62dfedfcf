//! What a backend writes to be registered in: register, keep alive, deregister.

use std::time::Duration;

use crate::{Error, Instance, ServiceName};

/// Writes to a registry. A backend writes three methods, and [`lost`](Self::lost) if it can tell of
/// a loss by itself; the [`Keeper`](crate::registration::Keeper) adds everything else (renewal in time, loss
/// detection, registering again for ever).
///
/// No method retries or loops by itself; every one may be dropped at any await, after which
/// nothing may be left behind for longer than the lease's time to live.
pub trait Registry: Send + Sync + 'static {
    /// What proves that a registration is ours.
    type Lease: Send + Sync + 'static;

    /// Writes the instance under a new lease, over whatever stands there under its key: a process
    /// that was restarted takes its own place again.
    fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> impl Future<Output = Result<Leased<Self::Lease>, Error>> + Send;

    /// Renews the lease, and checks that the registration still stands under it.
    ///
    /// An error means "not known": the keeper tries again soon. A certain loss is no error but
    /// [`KeptAlive::Lost`].
    fn keep_alive(
        &self,
        lease: &mut Self::Lease,
    ) -> impl Future<Output = Result<KeptAlive, Error>> + Send;

    /// Waits until there is reason to think that the registration was lost: the key was deleted or
    /// overwritten, the lease ended. The keeper then renews at once, instead of at its next turn,
    /// and finds out.
    ///
    /// A hint: one too many costs a renewal, one too few costs the time until the next renewal.
    /// What happens while nobody waits is told to the next who does. The default never resolves;
    /// write it for a registry that can tell, such as by a watch, and let all leases share that.
    fn lost(&self, lease: &Self::Lease) -> impl Future<Output = ()> + Send {
        let _ = lease;
        std::future::pending()
    }

    /// Removes the registration if it is still ours; never a successor's.
    fn deregister(&self, lease: Self::Lease) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A granted lease.
#[derive(Clone, Debug)]
pub struct Leased<L> {
    /// What proves that the registration is ours.
    pub lease: L,
    /// The time to live that the registry granted, which may differ from the one asked for.
    pub ttl: Duration,
}

/// What a renewal found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeptAlive {
    /// The registration stands, for this long from now.
    Alive {
        /// The time to live granted.
        ttl: Duration,
    },
    /// The lease or the key is gone: register again.
    Lost {
        /// Why, for the log.
        reason: Error,
    },
    /// The key stands, but under somebody else's lease. The keeper stands back until it is gone,
    /// so that two processes with one address do not overwrite each other for ever.
    Superseded {
        /// Who, if that is known.
        reason: Error,
    },
}
