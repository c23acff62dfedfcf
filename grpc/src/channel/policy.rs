//! What becomes of a failed attempt of one call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetward_core::retry::Verdict;
use fleetward_core::{self as core, BoxError};
use http::HeaderMap;
use tonic::Code;

use super::attempts::{Rejected, Superseded};
use super::plan::Plan;
use super::replay::{Replay, Sending};
use crate::ConnectionError;
use crate::connection::WasSent;

/// Made for each call.
pub(super) struct CallPolicy<'a> {
    plan: &'a Plan,
    /// A server that has no room gets one transparent retry elsewhere; more would make a storm.
    refused: AtomicBool,
    request: &'a Replay<'a>,
}

impl<'a> CallPolicy<'a> {
    pub(super) fn new(plan: &'a Plan, request: &'a Replay<'a>) -> Self {
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

impl<'a> core::retry::RetryClassifier<Sending<'a>> for CallPolicy<'_> {
    fn copy(&self, request: &Sending<'a>) -> Option<Sending<'a>> {
        Some(*request)
    }

    fn mark(&self, request: &mut Sending<'a>, previous: u32) {
        request.set_previous(previous);
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

/// What a server says about coming back: `grpc-retry-pushback-ms`.
pub(super) enum Pushback {
    After(Duration),
    Stop,
}

impl Pushback {
    const NAME: &str = "grpc-retry-pushback-ms";

    pub(super) fn of(head: &HeaderMap) -> Option<Self> {
        let mut all = head.get_all(Self::NAME).iter();
        let text = all.next()?.to_str().unwrap_or_default();
        // A signed number of 32 bits. One with a sign is negative, or not as it is to be written.
        let millis = text.parse::<i32>().ok().and_then(|millis| u64::try_from(millis).ok());
        Some(match millis {
            Some(millis) if !text.starts_with('+') && all.next().is_none() => {
                Self::After(Duration::from_millis(millis))
            }
            _ => Self::Stop,
        })
    }
}
