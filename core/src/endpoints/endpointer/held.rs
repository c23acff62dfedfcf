//! A service as the endpointer holds it.

use crate::task::shield::shielded;

/// A service, which is the user's, or none: neither its `Clone` nor its `Drop` ends a task of ours by a panic. One
/// whose `Clone` panics has a copy without a service.
pub(super) struct Held<S>(Option<S>);

impl<S> Held<S> {
    pub(super) fn new(service: S) -> Self {
        Self(Some(service))
    }

    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn get(&self) -> Option<&S> {
        self.0.as_ref()
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl<S: Clone> Clone for Held<S> {
    fn clone(&self) -> Self {
        Self(shielded(|| self.0.clone()).flatten())
    }
}

impl<S> Drop for Held<S> {
    fn drop(&mut self) {
        if let Some(service) = self.0.take() {
            shielded(|| drop(service));
        }
    }
}
