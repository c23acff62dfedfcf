//! What a backend writes to be discovered through: list, and watch from where the list stood.

use std::sync::Arc;

use futures::Stream;

use crate::{Error, Instance, ServiceName};

/// Reads a registry. A backend writes these two methods; the [`Reflector`](crate::discovery::Reflector) adds
/// everything else (retry with backoff, resync, last known good, empty-set policy, coalescing).
///
/// One value serves any number of services. It has no loop and no state of its own beyond its
/// client: dropping the future or the stream ends the request.
pub trait Source: Send + Sync + 'static {
    /// Where in the registry's history a list stood: an etcd revision, a Consul index.
    type Cursor: Clone + Send + Sync + 'static;

    /// Reads the complete set.
    ///
    /// An entry that cannot be read is an [`Entry`] with an error in it, never an error of the
    /// list. The reflector gives the future a deadline.
    fn list(
        &self,
        service: &ServiceName,
    ) -> impl Future<Output = Result<Listing<Self::Cursor>, Error>> + Send;

    /// Streams what changed after `from`, without a gap.
    ///
    /// The stream may end or fail whenever the registry says so: the reflector lists again and
    /// watches from there. [`CursorLost`](crate::ErrorKind::CursorLost) says that the history
    /// needed is gone (compacted, another cluster); the reflector then lists again at once. A
    /// source notices a silent server by itself (keepalive), for no news is no error.
    fn watch(
        &self,
        service: &ServiceName,
        from: Self::Cursor,
    ) -> impl Stream<Item = Result<Change<Self::Cursor>, Error>> + Send;

    /// Where a service is looked for, in one line: the registry, the key or path, the format. A call
    /// that finds no instance says it. Never a secret; cut after 256 characters. Default: nothing.
    fn describe(&self, service: &ServiceName) -> String {
        let _ = service;
        String::new()
    }
}

/// The complete set, as one list request (or several pages of one revision) gave it.
#[derive(Clone, Debug)]
pub struct Listing<C> {
    /// Every entry, readable or not.
    pub entries: Vec<Entry>,
    /// Where the list stood; the watch starts after it.
    pub cursor: C,
}

/// One entry of a registry: its key, and the instance if the value can be read.
///
/// The key is what later deletes name. Two keys may hold the same instance, by id and address: then a live entry
/// comes before one that is held by the empty-set policy, then the healthier, then the newer, then the smaller key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The registry's own key.
    pub key: Arc<str>,
    /// The instance, or why it could not be read.
    pub instance: Result<Arc<Instance>, Error>,
    /// When the entry was written last, in the registry's own count; 0 if it does not say.
    pub revision: u64,
}

impl Entry {
    /// An entry from a decoder's result.
    pub fn new(key: impl Into<Arc<str>>, instance: Result<Instance, Error>) -> Self {
        Self { key: key.into(), instance: instance.map(Arc::new), revision: 0 }
    }

    /// Sets when the entry was written last, in the registry's own count.
    #[must_use]
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }
}

/// What a watch saw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change<C> {
    /// Single keys changed. All of one registry transaction stand in one change.
    Keys {
        /// The changes, oldest first.
        changes: Vec<KeyChange>,
        /// Where the history stands now.
        cursor: C,
    },
    /// The registry only tells complete sets (Consul, DNS): this is the newest.
    Full(Listing<C>),
    /// Nothing changed; the registry is alive.
    Progress,
}

/// A change of one key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeyChange {
    /// The key was written.
    Put(Entry),
    /// The key is gone.
    Delete(Arc<str>),
}
