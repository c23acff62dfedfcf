//! The task that owns a socket.
//!
//! hyper runs an HTTP/2 connection in several tasks: the first one it spawns owns the socket and
//! lives until the last stream has ended; the others serve single requests and end with it. What is
//! polled as the "connection" ends earlier, as soon as no new request is taken. So the first task is
//! what must be awaited to drain and aborted to cut off.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// Holds a connection's socket: dropping it closes the socket at once.
pub(super) struct Wire {
    abort: Arc<OnceLock<AbortHandle>>,
    closed: oneshot::Receiver<()>,
}

impl Wire {
    /// A wire, and what hyper is to spawn its tasks with.
    pub(super) fn new() -> (Self, Spawner) {
        let abort = Arc::new(OnceLock::new());
        let (guard, closed) = oneshot::channel();
        let spawner = Spawner { abort: abort.clone(), guard: Arc::new(Mutex::new(Some(guard))) };
        (Self { abort, closed }, spawner)
    }

    /// Waits until every stream has ended and the socket is closed.
    pub(super) async fn closed(&mut self) {
        // Nothing is ever sent: the task drops its end, however it ends.
        let _ = (&mut self.closed).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.abort.get().is_some_and(AbortHandle::is_finished)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(abort) = self.abort.get() {
            abort.abort();
        }
    }
}

/// Spawns what hyper asks for, and remembers the first task.
#[derive(Clone)]
pub(super) struct Spawner {
    abort: Arc<OnceLock<AbortHandle>>,
    guard: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        if self.abort.get().is_some() {
            tokio::spawn(task);
            return;
        }
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let first = tokio::spawn(async move {
            task.await;
            drop(guard);
        });
        // hyper spawns the first one during the handshake, before it takes any request.
        let _ = self.abort.set(first.abort_handle());
    }
}
