//! The HTTP/2 connection of an instance: made when a call needs it, closed when idle.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use fleetward_http2::{Established, Sender};
use tokio::time::{Instant, sleep_until};

/// The connection that calls share. Empty while there is none.
#[derive(Default)]
pub(super) struct Link(Mutex<Option<Arc<LinkState>>>);

/// One connection. Each call holds it until its response's body has ended.
pub(super) struct LinkState {
    pub(super) sender: Arc<Sender>,
    used: Mutex<Instant>,
}

/// A call's hold on the connection.
pub(super) struct InUse(Arc<LinkState>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
    }
}

impl LinkState {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When it has been idle for so long; later, if there are calls.
    fn idle_at(self: &Arc<Self>, timeout: Duration) -> Option<Instant> {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // One is the link's, and one the watcher's that asks.
        let since = if Arc::strong_count(self) > 2 { Instant::now() } else { used };
        since.checked_add(timeout)
    }
}

impl Link {
    /// The connection, if it takes requests.
    pub(super) fn current(&self) -> Option<InUse> {
        let shared = self.lock().clone()?;
        (!shared.sender.is_closed()).then(|| InUse(shared))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<LinkState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection and has a task watch it: it is let go when it takes no more requests, or when it has
    /// been idle for too long. Its calls under way go on.
    pub(super) fn connect(self: &Arc<Self>, established: Established, idle: Duration) -> InUse {
        let Established { sender, closing, task, .. } = established;
        let used = Mutex::new(Instant::now());
        let shared = Arc::new(LinkState { sender: Arc::new(sender), used });
        let before = self.lock().replace(shared.clone());
        drop(before);
        let (link, watched) = (Arc::downgrade(self), Arc::downgrade(&shared));
        tokio::spawn(async move {
            tokio::select! {
                _ = closing => {}
                () = idles(&watched, idle) => {}
            }
            if let Some(link) = link.upgrade() {
                link.disconnect(&watched);
            }
            task.closed().await;
        });
        InUse(shared)
    }

    fn disconnect(&self, gone: &Weak<LinkState>) {
        let mut current = self.lock();
        let is_it = current.as_ref().is_some_and(|it| std::ptr::eq(Arc::as_ptr(it), gone.as_ptr()));
        let gone = if is_it { current.take() } else { None };
        drop(current);
        drop(gone);
    }
}

/// Ends when nobody has used the connection for so long.
async fn idles(shared: &Weak<LinkState>, timeout: Duration) {
    loop {
        let at = match shared.upgrade() {
            Some(shared) => shared.idle_at(timeout),
            None => return,
        };
        match at {
            Some(at) if at <= Instant::now() => return,
            Some(at) => sleep_until(at).await,
            // Longer than the clock can show.
            None => std::future::pending().await,
        }
    }
}

impl InUse {
    pub(super) fn sender(&self) -> Arc<Sender> {
        self.0.sender.clone()
    }
}
