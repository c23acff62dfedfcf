//! What a configuration says about a method.

use std::time::Duration;

use fleetward_core::Error;
use tonic::Code;

use super::json::Node;
use crate::codes::Codes;
use crate::{HedgingPolicy, RetryPolicy};

/// How calls of a method are made: as far as it says nothing, as the channel says.
///
/// ```
/// use std::time::Duration;
/// use fleetward_grpc::{MethodConfig, RetryPolicy};
/// let config = MethodConfig::new()
///     .with_timeout(Duration::from_secs(2))
///     .with_retry(RetryPolicy::default());
/// assert!(config.retry().is_some() && config.hedging().is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MethodConfig {
    wait_for_ready: Option<bool>,
    timeout: Option<Duration>,
    attempts: Option<Attempts>,
    max_request_bytes: Option<u32>,
    max_response_bytes: Option<u32>,
}

/// One or the other, never both.
#[derive(Clone, Debug, PartialEq)]
enum Attempts {
    Retry(RetryPolicy),
    Hedging(HedgingPolicy),
}

impl MethodConfig {
    /// One that says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Retries calls that fail. Takes the place of a hedging policy.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.attempts = Some(Attempts::Retry(policy));
        self
    }

    /// Sends calls that are slow a second time. Takes the place of a retry policy.
    #[must_use]
    pub fn with_hedging(mut self, policy: HedgingPolicy) -> Self {
        self.attempts = Some(Attempts::Hedging(policy));
        self
    }

    /// Sets the deadline of each call. One that the caller sets still holds if it is earlier.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets whether a call that finds no instance waits for one until its deadline, or fails at once.
    #[must_use]
    pub fn with_wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = Some(wait);
        self
    }

    /// How a call that failed is tried again.
    pub fn retry(&self) -> Option<&RetryPolicy> {
        match &self.attempts {
            Some(Attempts::Retry(policy)) => Some(policy),
            _ => None,
        }
    }

    /// How a call that is slow is sent a second time.
    pub fn hedging(&self) -> Option<&HedgingPolicy> {
        match &self.attempts {
            Some(Attempts::Hedging(policy)) => Some(policy),
            _ => None,
        }
    }

    /// The deadline of each call.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether a call that finds no instance waits for one.
    pub fn wait_for_ready(&self) -> Option<bool> {
        self.wait_for_ready
    }

    /// `maxRequestMessageBytes`. Not enforced: a channel sees HTTP/2 frames, not messages. A generated
    /// client has the limits `max_encoding_message_size` and `max_decoding_message_size`, which this
    /// can be given to.
    pub fn max_request_message_bytes(&self) -> Option<u32> {
        self.max_request_bytes
    }

    /// `maxResponseMessageBytes`. Not enforced, as
    /// [`max_request_message_bytes`](Self::max_request_message_bytes).
    pub fn max_response_message_bytes(&self) -> Option<u32> {
        self.max_response_bytes
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, Error> {
        let retry = node.get("retryPolicy", retry)?;
        let hedging = node.get("hedgingPolicy", hedging)?;
        let attempts = match (retry, hedging) {
            (Some(_), Some(_)) => {
                return Err(node.error("has both a retryPolicy and a hedgingPolicy"));
            }
            (Some(policy), None) => Some(Attempts::Retry(policy)),
            (None, Some(policy)) => Some(Attempts::Hedging(policy)),
            (None, None) => None,
        };
        Ok(Self {
            wait_for_ready: node.get("waitForReady", Node::boolean)?,
            timeout: node.get("timeout", Node::duration)?,
            attempts,
            max_request_bytes: node.get("maxRequestMessageBytes", Node::whole)?,
            max_response_bytes: node.get("maxResponseMessageBytes", Node::whole)?,
        })
    }
}

fn retry(node: &Node<'_>) -> Result<RetryPolicy, Error> {
    let policy = RetryPolicy::default()
        .with_max_attempts(node.require("maxAttempts", max_attempts)?)
        .with_exponential_backoff(
            node.require("initialBackoff", positive_duration)?,
            node.require("maxBackoff", positive_duration)?,
            node.require("backoffMultiplier", positive_number)?,
        );
    let timeout = node.get("perAttemptRecvTimeout", positive_duration)?;
    let codes = node.get("retryableStatusCodes", codes)?.unwrap_or_default();
    if codes.is_empty() && timeout.is_none() {
        let what = "must name a code, unless perAttemptRecvTimeout gives another reason to retry";
        return Err(node.error_at("retryableStatusCodes", what));
    }
    let policy = policy.with_codes(codes);
    Ok(match timeout {
        Some(timeout) => policy.with_per_attempt_timeout(timeout),
        None => policy,
    })
}

fn hedging(node: &Node<'_>) -> Result<HedgingPolicy, Error> {
    let max_attempts = node.require("maxAttempts", max_attempts)?;
    let delay = node.get("hedgingDelay", Node::duration)?.unwrap_or_default();
    let non_fatal = node.get("nonFatalStatusCodes", codes)?.unwrap_or_default();
    Ok(HedgingPolicy::new(delay).with_max_attempts(max_attempts).with_non_fatal_codes(non_fatal))
}

/// More than the limit is the limit, by the policies themselves.
fn max_attempts(node: &Node<'_>) -> Result<u32, Error> {
    match node.whole()? {
        0 | 1 => Err(node.error("must be at least 2")),
        attempts => Ok(attempts),
    }
}

fn positive_duration(node: &Node<'_>) -> Result<Duration, Error> {
    let duration = node.duration()?;
    if duration.is_zero() {
        return Err(node.error("must be greater than 0"));
    }
    Ok(duration)
}

fn positive_number(node: &Node<'_>) -> Result<f64, Error> {
    let number = node.number()?;
    if number <= 0.0 {
        return Err(node.error("must be greater than 0"));
    }
    Ok(number)
}

fn codes(node: &Node<'_>) -> Result<Vec<Code>, Error> {
    node.items()?.map(|item| code(&item)).collect()
}

fn code(node: &Node<'_>) -> Result<Code, Error> {
    let code = if node.is_number() {
        let number = node.whole()?;
        i32::try_from(number).ok().filter(|number| *number <= 16).map(Code::from_i32)
    } else {
        Codes::by_name(node.text()?)
    };
    match code {
        Some(Code::Ok) => Err(node.error("is OK, which is no failure")),
        Some(code) => Ok(code),
        None => Err(node.error("is no status code; those are names such as \"UNAVAILABLE\"")),
    }
}
