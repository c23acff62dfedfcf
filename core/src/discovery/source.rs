//! What a backend writes to be discovered through: list, and watch from where the list stood.

use std::sync::Arc;

use futures::Stream;

use crate::model::ServiceSettings;
use crate::{Error, Instance, InstanceId, ServiceName};

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

    /// Whether a list may say more than the watch has said so far: `true` for a registry that is polled (DNS, a
    /// file), `false` for one that tells each change (default).
    ///
    /// Of a polled one the reflector asks for a list at once when connections to its instances fail, at most once in
    /// [`min_refresh_interval`](crate::discovery::ReflectorConfig::min_refresh_interval).
    fn is_polled(&self) -> bool {
        false
    }

    /// Where a service is looked for, in one line: the registry, the key or path, the format. A call
    /// that finds no instance says it. Never a secret; cut after 256 characters. Default: nothing.
    fn describe(&self, service: &ServiceName) -> String {
        let _ = service;
        String::new()
    }
}

/// The complete set, as one list request (or several pages of one revision) gave it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listing<C> {
    /// Every entry, readable or not.
    pub entries: Vec<Entry>,
    /// Where the list stood; the watch starts after it.
    pub cursor: C,
    /// What the registry says of the service as a whole, if it says anything.
    pub settings: Option<Arc<ServiceSettings>>,
}

impl<C> Listing<C> {
    /// A list that stood at `cursor`, without settings.
    pub fn new(entries: Vec<Entry>, cursor: C) -> Self {
        Self { entries, cursor, settings: None }
    }

    /// Hands settings of the service along; see [`ServiceSettings`].
    #[must_use]
    pub fn with_settings(mut self, settings: ServiceSettings) -> Self {
        self.settings = Some(Arc::new(settings));
        self
    }
}

/// One entry of a registry: its key, and the instance if the value can be read; or several, where a registry keeps
/// those of a service under one key (a file, Kubernetes' EndpointSlice).
///
/// The key is what later deletes name; a later put of it replaces all that stood under it. Two keys may hold the same
/// instance, by id and address: then a live entry comes before one that is held by the empty-set policy, then the
/// healthier, then the newer, then the smaller key.
#[derive(Clone, Debug)]
pub struct Entry {
    key: Arc<str>,
    instances: Instances,
    revision: u64,
}

/// An instance, or why it could not be read.
pub type Read = Result<Arc<Instance>, Error>;

#[derive(Clone, Debug)]
enum Instances {
    One(Read),
    Several(Vec<Read>),
}

impl Entry {
    /// An entry from a decoder's result.
    pub fn new(key: impl Into<Arc<str>>, instance: Result<Instance, Error>) -> Self {
        Self { key: key.into(), instances: Instances::One(instance.map(Arc::new)), revision: 0 }
    }

    /// An entry with an instance that somebody holds already.
    pub fn shared(key: impl Into<Arc<str>>, instance: Arc<Instance>) -> Self {
        Self { key: key.into(), instances: Instances::One(Ok(instance)), revision: 0 }
    }

    /// An entry with any number of instances under one key; of those with the same id and address the first one
    /// counts. Each that cannot be read is counted as such, and the others stand. Which instance it was before cannot be
    /// told, so none is kept for it, as is for a key of one instance.
    ///
    /// ```
    /// use fleetward_core::{Error, Instance};
    /// use fleetward_core::discovery::Entry;
    /// let slice = ["10.0.0.1:80", "10.0.0.2:80", "nonsense"];
    /// let entry = Entry::several("slices/greeter-1", slice.map(Instance::new));
    /// assert_eq!(entry.instances().iter().filter(|read| read.is_ok()).count(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn several(
        key: impl Into<Arc<str>>,
        instances: impl IntoIterator<Item = Result<Instance, Error>>,
    ) -> Self {
        let instances = instances.into_iter().map(|instance| instance.map(Arc::new)).collect();
        Self { key: key.into(), instances: Instances::Several(instances), revision: 0 }
    }

    /// Sets when the entry was written last, in the registry's own count (default: 0, it does not say).
    #[must_use]
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    /// The registry's own key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// When the entry was written last, in the registry's own count; 0 if it does not say.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What stands under the key: mostly one.
    pub fn instances(&self) -> &[Read] {
        match &self.instances {
            Instances::One(instance) => std::slice::from_ref(instance),
            Instances::Several(instances) => instances,
        }
    }

    /// The instances that can be read.
    pub fn readable(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances().iter().filter_map(|read| read.as_ref().ok())
    }

    /// Gives each instance, with what tells it from the others where the entry was made for
    /// [several](Self::several).
    pub(crate) fn each(self, mut take: impl FnMut(&Arc<str>, Option<Part>, Read)) {
        match self.instances {
            Instances::One(read) => take(&self.key, None, read),
            Instances::Several(all) => {
                for (place, read) in all.into_iter().enumerate() {
                    let part = match &read {
                        Ok(instance) => Part::Instance(instance.id().clone()),
                        Err(_) => Part::Unreadable(place),
                    };
                    take(&self.key, Some(part), read);
                }
            }
        }
    }
}

/// What tells the instances of one entry apart.
pub(crate) enum Part {
    Instance(InstanceId),
    Unreadable(usize),
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
