//! What all calls of a client have in common.

use fleetward_client::ClientSettings;
use fleetward_core::retry::Retry;

use crate::RetryPolicy;

#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) common: ClientSettings,
    pub(super) retry: Option<RetryPolicy>,
}

impl Settings {
    /// An attempt has its deadline also where the call is tried once: one that has not left by then goes
    /// elsewhere.
    pub(super) fn once(&self) -> Retry<()> {
        let retry = Retry::with_policy(()).max_attempts(1);
        match self.retry.as_ref().and_then(|policy| policy.per_attempt_timeout) {
            Some(timeout) => retry.per_attempt_timeout(timeout),
            None => retry,
        }
    }

    pub(super) fn retried(&self) -> Retry<()> {
        match &self.retry {
            Some(policy) => self
                .once()
                .max_attempts(policy.max_attempts)
                .backoff(policy.backoff.clone())
                .budget(self.common.retry_budget.clone()),
            None => self.once(),
        }
    }
}
