//! What a call is retried by, whatever the policy.

use std::sync::Arc;
use std::time::Duration;

use super::{HedgeDelay, RetryBudget};
use crate::backoff::Backoff;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_attempts: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) per_attempt: Option<Duration>,
    pub(super) backoff: Backoff,
    pub(super) budget: Option<Arc<dyn RetryBudget>>,
    pub(super) hedge: Option<HedgeDelay>,
    pub(super) seed: Option<u64>,
}
