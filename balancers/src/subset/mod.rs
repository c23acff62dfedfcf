//! A few of many instances, so that not every client is connected to every instance.
//!
//! C clients that each connect to all of B instances are C x B connections, each with its memory, its
//! keepalives and its health checks at both ends. With a subset of k they are C x k.
//!
//! Two ways to choose, for no way has everything. What a client knows of itself decides:
//!
//! | the client knows | way | load of an instance (C = B = 300, k = 30) | connections that move when 1 of 300 goes |
//! |---|---|---|---|
//! | nothing, or a name of its own | `rendezvous` | 0.5 to 1.5 of the mean | 0.33 %: only those to it |
//! | its number among the clients | `lots` | 1.00 to 1.00 | 0.9 % |
//!
//! For comparison: the deterministic subsetting of Google's SRE book is as even and moves about 90 %.

mod deterministic;
mod mix;
#[cfg(test)]
mod oracle;
mod rendezvous;

use std::sync::{Arc, OnceLock};

use fleetward_core::Instance;
use fleetward_core::discovery::View;
use twox_hash::XxHash64;

/// Shows a client a part of the instances, of a fixed size, chosen so that the clients together load
/// all instances alike and so that few connections move when instances or clients come and go.
///
/// Use it when clients and instances are many (above some fifty of both), and each client's load is
/// small. Every client of a service is to use the same size and the same way; they agree without
/// talking to each other.
///
/// ```
/// use fleetward_balancers::Subset;
/// use fleetward_core::{Instance, Instancer};
/// use fleetward_core::discovery::{FixedInstancer, InstancerExt};
/// let all = (0..100).map(|i| Instance::new(format!("10.0.0.{i}:80").as_str()));
/// let list = FixedInstancer::new("greeter", all.collect::<Result<Vec<_>, _>>()?);
/// let mine = list.view(Subset::of(20).with_client_index(7));
/// assert_eq!(mine.subscribe().current().instances.len(), 20);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// # Which identity
///
/// - [`with_client_index`](Self::with_client_index) where clients are numbered from 0 without large
///   gaps, as the pods of a StatefulSet are: the load is even,
///   but for two or three connections an instance.
/// - [`with_client_id`](Self::with_client_id), or nothing: the load scatters like a random choice,
///   by about the square root of the connections that an instance has.
///
/// # What it does not do
///
/// - It does not look at health. A client whose whole subset is dead fails although other instances
///   live, so a subset must be large enough for that not to happen: with a share p of dead
///   instances it does with probability p^k. With k = 20, at half of all dead, that is one client in
///   a million; with k = 3 it is one in eight. Google advises 20 to 100 (SRE book, chapter 20).
/// - It does not look at weights: an instance of weight 2 has as many connections as any other, and
///   takes twice the calls of each client.
/// - It spreads the subset over zones by chance only. To stay in a zone, filter by zone first.
///
/// Instances that are draining (weight 0) are not chosen while there are others, for a place in the
/// subset that takes no call is wasted.
///
/// Sources: [Site Reliability Engineering, chapter 20](https://sre.google/sre-book/load-balancing-datacenter/);
/// Ward, Wankadia, Guliani, "[Reinventing Backend Subsetting at Google](https://doi.org/10.1145/3570937)",
/// ACM Queue 2022; [gRFC A68](https://github.com/grpc/proposal/blob/master/A68-random-subsetting.md)
/// (rendezvous hashing).
#[derive(Clone, Debug)]
#[must_use]
pub struct Subset {
    size: usize,
    client: Client,
}

#[derive(Clone, Copy, Debug)]
enum Client {
    Index(u64),
    Hash(u64),
}

impl Subset {
    /// Of `size` instances (at least 1), or of all where there are no more. The client has a random
    /// identity, which is the same for the whole process: all its subsets are the same.
    pub fn of(size: usize) -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        let hash = *PROCESS.get_or_init(|| fastrand::u64(..));
        Self { size: size.max(1), client: Client::Hash(hash) }
    }

    /// Gives the client a name that no other client has, such as its pod's: so its subset is the
    /// same after a restart.
    pub fn with_client_id(mut self, id: &str) -> Self {
        self.client = Client::Hash(XxHash64::oneshot(0, id.as_bytes()));
        self
    }

    /// Gives the client its number among all clients, from 0. How many there are need not be known,
    /// and a client that is added moves no connection of another. Two clients of the same number
    /// have the same subset.
    pub fn with_client_index(mut self, index: u64) -> Self {
        self.client = Client::Index(index);
        self
    }
}

impl View for Subset {
    fn choose(&self, all: &[Arc<Instance>]) -> Vec<Arc<Instance>> {
        let mut candidates: Vec<_> = all.iter().filter(|i| !i.is_draining()).collect();
        if candidates.is_empty() {
            candidates = all.iter().collect();
        }
        if candidates.len() <= self.size {
            return candidates.into_iter().cloned().collect();
        }
        // By the id alone, so that an instance keeps its place at another address; but not two in the same place.
        let text = |at: usize| {
            let id = candidates[at].id();
            let is_twin = at > 0 && candidates[at - 1].id().as_str() == id.as_str();
            if is_twin { id.as_key() } else { id.as_str() }
        };
        let keys: Vec<u64> =
            (0..candidates.len()).map(|at| XxHash64::oneshot(0, text(at).as_bytes())).collect();
        let chosen = match self.client {
            Client::Index(index) => deterministic::choose(&keys, self.size, index),
            Client::Hash(client) => rendezvous::choose(&keys, self.size, client),
        };
        chosen.into_iter().map(|at| candidates[at].clone()).collect()
    }
}
