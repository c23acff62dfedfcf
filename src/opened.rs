//! The registries that are open.
//!
//! Two parts of a program that connect to the same URL do not know of each other, and should not watch the same
//! service twice. So a URL has one handle for as long as anything of it is in use. Reflectors are tasks, so the runtime
//! is a part of the key.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fleetward_core::RegistryHandle;
use fleetward_core::registry::{Secret, WeakRegistryHandle};
use tokio::runtime::{Handle, Id};

#[derive(Default)]
pub(crate) struct Opened(Mutex<Vec<Open>>);

struct Open {
    runtime: Id,
    /// It may hold a password.
    url: Secret,
    handle: WeakRegistryHandle,
}

impl Opened {
    /// A list and no map: a process opens few registries, and seldom.
    fn list(&self) -> MutexGuard<'_, Vec<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle that this runtime has open for exactly this URL.
    pub(crate) fn find(&self, url: &str) -> Option<RegistryHandle> {
        let runtime = Handle::try_current().ok()?.id();
        let opened = self.list();
        let same =
            opened.iter().find(|open| open.runtime == runtime && open.url.expose() == url)?;
        same.handle.upgrade()
    }

    /// Remembers `handle`. If somebody else was quicker, that one's is the one to use.
    pub(crate) fn remember(&self, url: &str, handle: RegistryHandle) -> RegistryHandle {
        let Ok(runtime) = Handle::try_current() else { return handle };
        let runtime = runtime.id();
        let mut opened = self.list();
        opened.retain(|open| open.handle.is_alive());
        let same = opened.iter().find(|open| open.runtime == runtime && open.url.expose() == url);
        if let Some(earlier) = same.and_then(|open| open.handle.upgrade()) {
            // The other one is dropped without the lock.
            drop(opened);
            return earlier;
        }
        opened.push(Open { runtime, url: Secret::new(url), handle: handle.downgrade() });
        handle
    }
}
