//! What becomes of a failed attempt of one call.

use fleetward_core::context::WithContext;
use fleetward_core::endpoints::Endpoints;
use fleetward_core::retry::{RetryClassifier, Verdict};
use fleetward_core::{BoxError, Error};
use http::StatusCode;

use super::call::Call;
use super::rejected::Rejected;
use crate::{OriginError, RetryPolicy};

/// Made for each call.
pub(super) struct CallPolicy<'a, S, B> {
    call: &'a Call<B>,
    endpoints: &'a Endpoints<S>,
}

impl<'a, S, B> CallPolicy<'a, S, B> {
    pub(super) fn new(call: &'a Call<B>, endpoints: &'a Endpoints<S>) -> Self {
        Self { call, endpoints }
    }

    fn rejected(&self, rejected: &Rejected, policy: &RetryPolicy) -> Verdict {
        let Some(wait) = rejected.wait else { return Verdict::Retry };
        // Another instance has asked for nothing.
        if rejected.status != StatusCode::TOO_MANY_REQUESTS && self.has_others() {
            return Verdict::Retry;
        }
        if wait > policy.longest_wait { Verdict::Return } else { Verdict::RetryAfter(wait) }
    }

    /// Whether no server can have acted on the request.
    fn is_unprocessed(&self, error: &BoxError) -> bool {
        if let Some(error) = error.downcast_ref::<OriginError>() {
            return error.is_unprocessed();
        }
        match error.downcast_ref::<Error>() {
            // How far it came says more than that it took too long.
            Some(error) if error.is_timeout() => self.call.take_back(),
            _ => Verdict::is_unsent(error),
        }
    }

    /// Whether there are instances that the call has not tried.
    fn has_others(&self) -> bool {
        let set = self.endpoints.load();
        set.ready().iter().any(|member| !self.call.has_tried(member.instance().id()))
    }
}

impl<'a, S, B> RetryClassifier<WithContext<&'a Call<B>>> for CallPolicy<'_, S, B>
where
    S: Send + Sync,
    B: Send,
{
    fn copy(&self, call: &WithContext<&'a Call<B>>) -> Option<WithContext<&'a Call<B>>> {
        Some(call.clone())
    }

    fn judge(&self, _attempt: u32, error: &BoxError) -> Verdict {
        if self.is_unprocessed(error) {
            // A body that was read of is gone; and an instance that is silent is given its time once.
            let ends = !self.call.can_be_sent() || (is_silence(error) && !self.has_others());
            return if ends { Verdict::Return } else { Verdict::Transparent };
        }
        let Some(policy) = self.call.policy().filter(|_| self.call.can_be_sent()) else {
            return Verdict::Return;
        };
        if let Some(rejected) = error.downcast_ref::<Rejected>() {
            return self.rejected(rejected, policy);
        }
        if let Some(error) = error.downcast_ref::<OriginError>() {
            return if error.is_caller() { Verdict::Return } else { Verdict::Retry };
        }
        match error.downcast_ref::<Error>() {
            // No endpoint: the attempt has waited for one as long as it may.
            Some(error) if !error.is_timeout() => Verdict::Return,
            // The attempt's own deadline (the call's ends the call without asking), or a layer's error.
            _ => Verdict::Retry,
        }
    }
}

fn is_silence(error: &BoxError) -> bool {
    error.downcast_ref::<OriginError>().is_some_and(OriginError::is_silence)
}
