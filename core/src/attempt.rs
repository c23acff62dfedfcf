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

use tokio::task::futures::TaskLocalFuture;

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

/// Polls `attempt` with `context` in place.
pub(crate) fn scope<F: Future>(
    context: AttemptContext,
    attempt: F,
) -> TaskLocalFuture<RefCell<AttemptContext>, F> {
    ATTEMPT.scope(RefCell::new(context), attempt)
}

/// Takes the context back out, whether the attempt has ended or is given up.
pub(crate) fn take<F: Future>(
    attempt: Pin<&mut TaskLocalFuture<RefCell<AttemptContext>, F>>,
) -> AttemptContext {
    attempt.take_value().map(RefCell::into_inner).unwrap_or_default()
}

/// How many attempts of this call went before; 0 outside any retry.
pub(crate) fn number() -> u32 {
    ATTEMPT.try_with(|context| context.borrow().number).unwrap_or(0)
}

/// How many instances this call has tried already.
pub(crate) fn tried_len() -> usize {
    ATTEMPT.try_with(|context| context.borrow().tried.len()).unwrap_or(0)
}

/// Whether this call has tried the instance already.
pub(crate) fn is_tried(instance: &InstanceId) -> bool {
    ATTEMPT.try_with(|context| context.borrow().tried.contains(instance)).unwrap_or(false)
}

/// Notes where this attempt went, or that it found no endpoint.
pub(crate) fn picked(instance: Option<&InstanceId>) {
    // Outside any retry there is nobody to tell.
    let _ = ATTEMPT.try_with(|context| context.borrow_mut().picked = instance.cloned());
}

/// Runs `f` as if outside any retry.
pub(crate) fn hidden<T>(f: impl FnOnce() -> T) -> T {
    ATTEMPT.sync_scope(RefCell::default(), f)
}
