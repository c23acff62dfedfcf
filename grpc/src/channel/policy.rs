//! What becomes of a failed attempt of one call.

use std::sync::atomic::{AtomicBool, Ordering};

use fleetward_client::Superseded;
use fleetward_core::context::WithContext;
use fleetward_core::retry::Verdict;
use fleetward_core::{self as core, BoxError};
use tonic::Code;

use super::plan::Plan;
use super::pushback::Pushback;
use super::rejected::Rejected;
use super::replay::Replay;
use crate::ConnectionError;
use crate::connection::WasSent;

/// Made for each call.
pub(super) struct CallPolicy<'a, B> {
    plan: &'a Plan,
    /// A server that has no room gets one transparent retry elsewhere; more would make a storm.
    refused: AtomicBool,
    request: &'a Replay<'a, B>,
}

impl<'a, B> CallPolicy<'a, B> {
    pub(super) fn new(plan: &'a Plan, request: &'a Replay<'a, B>) -> Self {
        Self { plan, refused: AtomicBool::new(false), request }
    }

    fn by_code(&self, code: Code) -> Verdict {
        if self.plan.retries(code) { Verdict::Retry } else { Verdict::Return }
    }

    /// By gRFC A6: a server that says when to come back is believed, one that says not to, or says
    /// something that cannot be read, is left alone.
    fn by_head(&self, rejected: &Rejected) -> Verdict {
        match Pushback::of(&rejected.head.headers) {
            Some(Pushback::Stop) if self.plan.retries(rejected.code) => Verdict::Stop,
            Some(Pushback::Stop) => {
                // Final by its code, it ends the other attempts of a hedged call as well. To be asked
                // to stay away counts as a failure all the same.
                if let Some(budget) = &self.plan.budget {
                    budget.failed();
                }
                Verdict::Return
            }
            Some(Pushback::After(wait)) if self.plan.retries(rejected.code) => {
                Verdict::RetryAfter(wait)
            }
            _ => self.by_code(rejected.code),
        }
    }
}

impl<'a, B> core::retry::RetryClassifier<WithContext<&'a Replay<'a, B>>> for CallPolicy<'_, B> {
    fn copy(
        &self,
        request: &WithContext<&'a Replay<'a, B>>,
    ) -> Option<WithContext<&'a Replay<'a, B>>> {
        Some(request.clone())
    }

    fn judge(&self, _attempts: u32, error: &BoxError) -> Verdict {
        if error.is::<Superseded>() {
            return Verdict::Discard;
        }
        if !self.request.can_be_sent() {
            // Committed: more of it than can be kept has gone to the attempt that failed.
            return Verdict::Return;
        }
        if let Some(rejected) = error.downcast_ref::<Rejected>() {
            return self.by_head(rejected);
        }
        if let Some(error) = error.downcast_ref::<ConnectionError>() {
            return match error.was_sent() {
                WasSent::Unsent | WasSent::GoneAway => Verdict::Transparent,
                WasSent::Refused if !self.refused.swap(true, Ordering::Relaxed) => {
                    Verdict::Transparent
                }
                _ => self.by_code(error.status().code()),
            };
        }
        match error.downcast_ref::<core::Error>() {
            Some(error) if error.is_unsent() => Verdict::Transparent,
            Some(error) if error.is_timeout() && self.request.takes_back() => Verdict::Transparent,
            // The attempt's own deadline; the call's ends the call without asking.
            Some(error) if error.is_timeout() && self.plan.retries_slow_attempts() => {
                Verdict::Retry
            }
            // No endpoint: the attempt has waited for one as long as it may.
            _ => Verdict::Return,
        }
    }
}
