//! The tasks of a client's connections.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

/// Spawns on tokio, and notes whether a task was dropped before its end: by a runtime that was shut down, or
/// by a panic. hyper's errors do not tell that from a connection that ended in good order.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    aborted: Arc<AtomicBool>,
}

impl Tasks {
    pub(super) fn aborted(&self) -> Arc<AtomicBool> {
        self.aborted.clone()
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Noted { future, aborted: Some(self.aborted()) });
    }
}

pin_project! {
    struct Noted<F> {
        #[pin]
        future: F,
        // Nothing once the future has ended.
        aborted: Option<Arc<AtomicBool>>,
    }

    impl<F> PinnedDrop for Noted<F> {
        /// Before the future is dropped, whose end others hear of.
        fn drop(this: Pin<&mut Self>) {
            if let Some(aborted) = this.project().aborted {
                aborted.store(true, Ordering::Release);
            }
        }
    }
}

impl<F: Future> Future for Noted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        if polled.is_ready() {
            *this.aborted = None;
        }
        polled
    }
}
