//! What becomes of a failed attempt of one call.

use std::sync::atomic::{AtomicBool, Ordering};

use fleetward_core::{self as core, BoxError, Verdict};
use tonic::Code;

use super::attempts::Rejected;
use super::request::Replay;
use crate::connection::Fate;
use crate::{ConnectionError, RetryPolicy};

/// Made for each call.
pub(super) struct CallPolicy {
    policy: Option<RetryPolicy>,
    /// Whether the request can be sent again after it has left.
    whole: bool,
    /// A server that has no room gets one transparent retry elsewhere; more would make a storm.
    refused: AtomicBool,
}

impl CallPolicy {
    pub(super) fn new(policy: Option<RetryPolicy>, whole: bool) -> Self {
        Self { policy, whole, refused: AtomicBool::new(false) }
    }

    fn by_code(&self, code: Code) -> Verdict {
        match &self.policy {
            Some(policy) if self.whole && policy.retries(code) => Verdict::Retry,
            _ => Verdict::Return,
        }
    }
}

impl core::RetryClassifier<Replay> for CallPolicy {
    fn copy(&self, request: &Replay) -> Option<Replay> {
        Some(request.clone())
    }

    fn judge(&self, _attempt: u32, error: &BoxError) -> Verdict {
        if let Some(rejected) = error.downcast_ref::<Rejected>() {
            return self.by_code(rejected.code);
        }
        if let Some(error) = error.downcast_ref::<ConnectionError>() {
            return match error.fate() {
                Fate::Unsent => Verdict::Transparent,
                Fate::GoneAway if self.whole => Verdict::Transparent,
                Fate::Refused if self.whole && !self.refused.swap(true, Ordering::Relaxed) => {
                    Verdict::Transparent
                }
                _ => self.by_code(error.status().code()),
            };
        }
        match error.downcast_ref::<core::Error>() {
            // The attempt's own deadline; the call's ends the call without asking.
            Some(error) if error.is_timeout() && self.policy.is_some() => Verdict::Retry,
            // No endpoint: the attempt has waited for one as long as it may.
            _ => Verdict::Return,
        }
    }
}
