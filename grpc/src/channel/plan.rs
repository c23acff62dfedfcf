//! How the calls of a method are made: what its service config says, as far as it says something, and
//! else what the channel was built with.

use std::sync::Arc;
use std::time::Duration;

use fleetward_client::ClientSettings;
use fleetward_core::Retry;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::retry::{HedgeDelay, RetryBudget, Throttle};
use tonic::Code;

use crate::deadline::Timeout;
use crate::service_config::{MethodName, Methods};
use crate::{HedgingPolicy, MethodConfig, RetryPolicy, RetryThrottling, ServiceConfig};

/// What the channel was built with.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) common: ClientSettings,
    pub(super) attempts: Further,
    /// Methods whose calls may be carried out more than once.
    pub(super) idempotent: Vec<MethodName>,
}

/// What follows a first attempt.
#[derive(Clone, Debug, Default)]
pub(super) enum Further {
    #[default]
    Nothing,
    Retry(RetryPolicy),
    Hedge(HedgingPolicy),
}

impl Further {
    /// What a service config says of an idempotent method: hedging, unless it says something of its
    /// own. What is tried again by default is tried again here.
    fn hedged(&self, method: &MethodConfig) -> MethodConfig {
        let says = method.retry().is_some() || method.hedging().is_some();
        let policy = HedgingPolicy::idempotent();
        let policy = match self {
            _ if says => return method.clone(),
            Self::Hedge(policy) => policy.clone(),
            Self::Nothing => policy,
            Self::Retry(retry) => {
                let most = retry.max_attempts().max(policy.max_attempts());
                let codes = (1..=16).map(Code::from_i32).filter(|code| retry.retries(*code));
                policy.with_max_attempts(most).with_non_fatal_codes(codes)
            }
        };
        method.clone().with_hedging(policy)
    }
}

/// The plans of all methods, and what bounds their further attempts together.
#[derive(Debug)]
pub(super) struct Plans {
    methods: Methods<Plan>,
    throttle: Option<(RetryThrottling, Arc<dyn RetryBudget>)>,
}

/// How the calls of one method are made.
#[derive(Debug)]
pub(crate) struct Plan {
    /// For messages.
    pub(super) service: Arc<str>,
    further: Further,
    /// The engine's settings; the judgement is the plan's.
    pub(super) retry: Retry<()>,
    pub(super) budget: Option<Arc<dyn RetryBudget>>,
    /// The deadline of a call that brings none.
    pub(super) timeout: Option<Timeout>,
    /// The deadline of a call whatever it brings.
    pub(super) at_most: Option<Timeout>,
    pub(super) wait: WaitForReady,
}

impl Plans {
    /// A throttle that `before` has goes on if the configuration asks for the same one.
    pub(super) fn new(
        service: &Arc<str>,
        config: &ServiceConfig,
        defaults: &Defaults,
        before: Option<&Self>,
    ) -> Self {
        let before = before.and_then(|before| before.throttle.clone());
        let throttle = config.retry_throttling().and_then(|wanted| match before {
            Some((same, throttle)) if same == wanted => Some((wanted, throttle)),
            // What can be written down as throttling can be made one.
            _ => Throttle::new(wanted.max_tokens(), wanted.token_ratio())
                .ok()
                .map(|throttle| (wanted, Arc::new(throttle) as Arc<dyn RetryBudget>)),
        });
        let budget =
            throttle.as_ref().map_or(&defaults.common.retry_budget, |(_, throttle)| throttle);
        let throttled = throttle.is_some();
        let mut methods = config.methods().clone();
        for name in &defaults.idempotent {
            methods.change(name, |method| defaults.attempts.hedged(method));
        }
        let methods =
            methods.map(|method| Plan::new(service.clone(), method, defaults, budget, throttled));
        Self { methods, throttle }
    }

    pub(super) fn throttle(&self) -> Option<&dyn RetryBudget> {
        self.throttle.as_ref().map(|(_, throttle)| &**throttle)
    }

    pub(super) fn of(&self, path: &str) -> &Arc<Plan> {
        self.methods.get(path)
    }
}

impl Plan {
    /// A throttle counts the calls of all methods, also of those that are never tried again.
    fn new(
        service: Arc<str>,
        method: &MethodConfig,
        defaults: &Defaults,
        budget: &Arc<dyn RetryBudget>,
        throttled: bool,
    ) -> Self {
        let further = match (method.retry(), method.hedging()) {
            (Some(retry), _) => Further::Retry(retry.clone()),
            (None, Some(hedging)) => Further::Hedge(hedging.clone()),
            (None, None) => defaults.attempts.clone(),
        };
        let retry = Retry::with_policy(());
        let (retry, budget) = match &further {
            Further::Nothing => (retry.max_attempts(1), throttled.then(|| budget.clone())),
            Further::Retry(policy) => {
                let retry = retry
                    .max_attempts(policy.max_attempts())
                    .backoff(policy.backoff().clone())
                    .budget(Arc::new(UntilHead(budget.clone())));
                let retry = match policy.per_attempt_timeout() {
                    Some(timeout) => retry.per_attempt_timeout(timeout),
                    None => retry,
                };
                (retry, Some(budget.clone()))
            }
            Further::Hedge(policy) => {
                let retry = retry
                    .max_attempts(policy.max_attempts())
                    .hedge(HedgeDelay::fixed(policy.delay()))
                    .budget(Arc::new(UntilHead(budget.clone())));
                (retry, Some(budget.clone()))
            }
        };
        let wait = match method.wait_for_ready() {
            None => defaults.common.wait_for_ready,
            Some(true) => WaitForReady::AtMost(Duration::MAX),
            Some(false) => WaitForReady::FailFast,
        };
        let timeout = defaults.common.timeout.map(Timeout::new);
        let at_most = method.timeout().map(Timeout::new);
        Self { service, further, retry, budget, timeout, at_most, wait }
    }

    /// Whether another attempt may mend a call that failed so.
    pub(super) fn retries(&self, code: Code) -> bool {
        match &self.further {
            Further::Nothing => false,
            Further::Retry(policy) => policy.retries(code),
            Further::Hedge(policy) => policy.is_non_fatal(code),
        }
    }

    /// Whether an attempt that had no answer in its own time is tried again.
    pub(super) fn retries_slow_attempts(&self) -> bool {
        matches!(self.further, Further::Retry(_))
    }
}

/// The budget as the engine sees it: whether a call succeeded is known at its end only, which may come
/// long after the head that ends the attempts.
#[derive(Debug)]
struct UntilHead(Arc<dyn RetryBudget>);

impl RetryBudget for UntilHead {
    fn call(&self) {
        self.0.call();
    }

    fn failed(&self) {
        self.0.failed();
    }

    fn allows(&self) -> bool {
        self.0.allows()
    }

    fn identity(&self) -> usize {
        self.0.identity()
    }
}
