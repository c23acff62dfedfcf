//! What becomes of a failed attempt of one call.

use std::sync::Arc;

use fleetward_core::{BoxError, Endpointer, Error, RetryClassifier, Verdict};
use http::StatusCode;

use super::attempts::Rejected;
use super::call::Call;
use crate::{Origin, OriginError, RetryPolicy};

/// Made for each call.
pub(super) struct CallPolicy<S, B> {
    call: Arc<Call<B>>,
    endpointer: Endpointer<Origin<S>>,
}

impl<S, B> CallPolicy<S, B> {
    pub(super) fn new(call: Arc<Call<B>>, endpointer: Endpointer<Origin<S>>) -> Self {
        Self { call, endpointer }
    }

    fn rejected(&self, rejected: &Rejected, policy: &RetryPolicy) -> Verdict {
        let Some(wait) = rejected.wait else { return Verdict::Retry };
        // Another instance has asked for nothing.
        if rejected.status != StatusCode::TOO_MANY_REQUESTS && self.has_others() {
            return Verdict::Retry;
        }
        if wait > policy.longest_wait { Verdict::Return } else { Verdict::RetryAfter(wait) }
    }

    /// Whether there are instances that the call has not tried.
    fn has_others(&self) -> bool {
        let set = self.endpointer.load();
        set.ready().iter().any(|member| !self.call.has_tried(member.instance().id()))
    }
}

impl<S, B> RetryClassifier<Arc<Call<B>>> for CallPolicy<S, B>
where
    S: Send + Sync,
    B: Send,
{
    fn copy(&self, call: &Arc<Call<B>>) -> Option<Arc<Call<B>>> {
        Some(call.clone())
    }

    fn judge(&self, _attempt: u32, error: &BoxError) -> Verdict {
        let policy = self.call.policy();
        if let Some(error) = error.downcast_ref::<OriginError>() {
            return match policy {
                _ if error.is_unsent() => Verdict::Transparent,
                Some(_) if !error.is_caller() => Verdict::Retry,
                _ => Verdict::Return,
            };
        }
        let Some(policy) = policy else { return Verdict::Return };
        if let Some(rejected) = error.downcast_ref::<Rejected>() {
            return self.rejected(rejected, policy);
        }
        match error.downcast_ref::<Error>() {
            // The attempt's own deadline; the call's ends the call without asking.
            Some(error) if error.is_timeout() => Verdict::Retry,
            // No endpoint: the attempt has waited for one as long as it may.
            _ => Verdict::Return,
        }
    }
}
