//! The registries that this process has open.
//!
//! Two parts of a program that connect to the same URL, and do not know of each other, should not
//! watch the same service twice. So [`connect`](crate::connect) gives out one handle a URL, for as
//! long as anything of it is in use. Reflectors are tasks, so the runtime is a part of the key.

use std::sync::{Mutex, PoisonError};

use fleetward_core::RegistryHandle;
use fleetward_core::registry::{Secret, WeakRegistryHandle};
use tokio::runtime::{Handle, Id};

struct Opened {
    runtime: Id,
    /// It may hold a password.
    url: Secret,
    handle: WeakRegistryHandle,
}

/// A list and no map: a process opens few registries, and seldom.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// The handle that this runtime has open for exactly this URL.
pub(crate) fn find(url: &str) -> Option<RegistryHandle> {
    let runtime = Handle::try_current().ok()?.id();
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let same = opened.iter().find(|o| o.runtime == runtime && o.url.expose() == url)?;
    same.handle.upgrade()
}

/// Remembers `handle`, unless somebody else was quicker: then that one's is the one to use.
pub(crate) fn remember(url: &str, handle: RegistryHandle) -> RegistryHandle {
    let Ok(runtime) = Handle::try_current() else { return handle };
    let runtime = runtime.id();
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.retain(|o| o.handle.is_alive());
    let same = opened.iter().find(|o| o.runtime == runtime && o.url.expose() == url);
    if let Some(earlier) = same.and_then(|o| o.handle.upgrade()) {
        return earlier;
    }
    opened.push(Opened { runtime, url: Secret::new(url), handle: handle.downgrade() });
    handle
}
