#![doc = include_str!("../README.md")]

mod registry;
mod source;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

pub use crate::registry::MemoryLease;
pub use crate::source::MemoryCursor;
use crate::table::Table;

/// A registry in this process: a [`Source`](fleetward_core::discovery::Source) to discover through, and a
/// [`Registry`](fleetward_core::registration::Registry) to be registered in. Clones share one table.
///
/// ```
/// use fleetward_core::RegistryHandle;
/// use fleetward_memory::MemoryRegistry;
/// let registry = RegistryHandle::new(MemoryRegistry::new());
/// ```
#[derive(Clone)]
pub struct MemoryRegistry {
    shared: Arc<SharedTable>,
}

/// The registries that [`MemoryRegistry::shared`] gave out and that are still held.
static BY_NAME: LazyLock<Mutex<HashMap<String, Weak<SharedTable>>>> = LazyLock::new(Mutex::default);

impl MemoryRegistry {
    /// How many changes of a service are remembered, unless it is set.
    pub const DEFAULT_HISTORY: usize = 1024;

    /// An empty registry of its own.
    pub fn new() -> Self {
        Self::with_history(Self::DEFAULT_HISTORY)
    }

    /// An empty registry of its own that remembers the last `changes` of each service. A watch that
    /// falls further behind fails with [`CursorLost`](fleetward_core::ErrorKind::CursorLost), as a
    /// real registry's does after a compaction.
    pub fn with_history(changes: usize) -> Self {
        let (news, _) = watch::channel(());
        Self { shared: Arc::new(SharedTable { table: Mutex::new(Table::new(changes)), news }) }
    }

    /// The process-wide registry of that name: everybody who asks for it meets there. It is gone
    /// with the last who holds it.
    pub fn shared(name: &str) -> Self {
        let mut by_name = BY_NAME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = by_name.get(name).and_then(Weak::upgrade) {
            return Self { shared };
        }
        let registry = Self::new();
        by_name.retain(|_, shared| shared.strong_count() > 0);
        by_name.insert(name.to_owned(), Arc::downgrade(&registry.shared));
        registry
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegistry").finish_non_exhaustive()
    }
}

pub(crate) struct SharedTable {
    table: Mutex<Table>,
    /// Wakes the watches after a write. An expiry wakes nobody: every watch sleeps no longer than
    /// until the next one.
    pub(crate) news: watch::Sender<()>,
}

impl SharedTable {
    /// The table. It is never left half changed, so a poisoned lock is whole.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const _: () = {
    const fn promised<T: Clone + fmt::Debug + Send + Sync + 'static>() {}
    promised::<MemoryRegistry>();
};

#[cfg(test)]
mod tests;
