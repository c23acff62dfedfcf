//! What the attempts of one call know of each other.
//!
//! A retry must leave out the instances tried already, and say which instance an error came from.
//! The retry layer and the balancer do not know each other's types, and the caller may have put
//! other layers between them, so the two meet in a task-local that is set while the attempt's
//! future is polled. It costs no allocation. A layer that moves the call to another task (tower's
//! `Buffer`) cuts the line; then only the exclusion is lost. The line ends at the endpoint: what an
//! instance's service calls in turn is no attempt of this call, so it runs [`hidden`].

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::InstanceId;

tokio::task_local! {
    static ATTEMPT: RefCell<AttemptContext>;
}

/// The instances that earlier attempts went to, and the one that this attempt went to.
#[derive(Debug, Default)]
pub(crate) struct AttemptContext {
    pub(crate) number: u32,
    pub(crate) tried: Vec<InstanceId>,
    pub(crate) picked: Option<InstanceId>,
}

pin_project! {
    /// An attempt, with what is known of it in place while it is polled.
    pub(crate) struct Scoped<F> {
        context: AttemptContext,
        #[pin]
        attempt: F,
    }
}

impl<F> Scoped<F> {
    pub(crate) fn new(context: AttemptContext, attempt: F) -> Self {
        Self { context, attempt }
    }

    /// Where the attempt went, if it has picked.
    pub(crate) fn picked(&self) -> Option<&InstanceId> {
        self.context.picked.as_ref()
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let inside = RefCell::new(std::mem::take(this.context));
        ATTEMPT.sync_scope(inside, || {
            let polled = this.attempt.poll(cx);
            *this.context = ATTEMPT.with(RefCell::take);
            polled
        })
    }
}

/// Calls `f` with what is known of the attempt: how many went before it, and where they went.
pub(crate) fn with<T>(f: impl Fn(u32, &[InstanceId]) -> T) -> T {
    let inside = ATTEMPT.try_with(|context| {
        let context = context.borrow();
        f(context.number, &context.tried)
    });
    inside.unwrap_or_else(|_| f(0, &[]))
}

/// Notes where this attempt went, or that it found no endpoint.
pub(crate) fn picked(instance: Option<&InstanceId>) {
    // Outside any retry there is nobody to tell.
    let _ = ATTEMPT.try_with(|context| context.borrow_mut().picked = instance.cloned());
}

/// Runs `f` as if outside any retry.
pub(crate) fn hidden<T>(f: impl FnOnce() -> T) -> T {
    if ATTEMPT.try_with(|_| ()).is_err() {
        return f();
    }
    ATTEMPT.sync_scope(RefCell::default(), f)
}
