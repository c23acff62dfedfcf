//! Settings of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fleetward_client::ReplayBuffer;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::endpoints::EndpointerBuilder;
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::retry::RetryBudget;
use fleetward_core::{Balanced, Balancer, Factory, Instancer};

use super::settings::Settings;
use super::{Client, ClientParts};
use crate::{ByStatus, Pool, RequestBody, RetryPolicy, header, operation};

impl Client {
    /// A client with the default settings of the instances that `instancer` names. Returns at once.
    ///
    /// Outside of a tokio runtime nothing can be followed: then every call ends with an error that says so.
    pub fn new(instancer: impl Instancer) -> Self {
        Self::builder(instancer).build()
    }

    /// Sets up a client of `target`: an [`Instancer`], or what will be exchanged for one.
    pub fn builder<T>(target: T) -> ClientBuilder<T> {
        ClientBuilder::new(target)
    }
}

/// Settings of a [`Client`] of the service that `T` names.
///
/// `T` is anything until [`build`](Self::build) needs an [`Instancer`]: what stands for one (a URL,
/// say) is exchanged for it by [`with_target`](Self::with_target).
#[must_use]
pub struct ClientBuilder<T> {
    target: T,
    settings: Settings,
}

impl<T> ClientBuilder<T> {
    pub(super) fn new(target: T) -> Self {
        Self { target, settings: Settings::default() }
    }

    /// Sets which endpoint a call goes to (default: [`PeakEwma`](fleetward_balancers::PeakEwma)). It finds headers by
    /// [`PickContext::attribute`](fleetward_core::balancing::PickContext::attribute); see [`header`].
    pub fn balancer(mut self, balancer: impl Balancer + 'static) -> Self {
        self.settings.common.balancer = Some(Arc::new(balancer));
        self
    }

    /// Sets which endpoint a call goes to, unless [`balancer`](Self::balancer) has: for what a URL
    /// or a configuration says.
    pub fn balancer_or(mut self, balancer: impl FnOnce() -> Arc<dyn Balancer>) -> Self {
        self.settings.common.balancer.get_or_insert_with(balancer);
        self
    }

    /// Tries failed calls again (default: only those that never left).
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = Some(policy);
        self
    }

    /// Sets what bounds the further attempts of all calls together (default: [`RatioBudget`](fleetward_core::retry::RatioBudget), a fifth of
    /// the calls and ten a second).
    pub fn retry_budget(mut self, budget: Arc<dyn RetryBudget>) -> Self {
        self.settings.common.retry_budget = budget;
        self
    }

    /// Sets the deadline of calls that bring no [`Timeout`](crate::Timeout) of their own (default: none).
    /// It covers everything: the wait for an instance, every attempt, and the response up to the end of
    /// its body.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.common.timeout = Some(timeout);
        self
    }

    /// Sets what a call does that finds no endpoint ready (default: wait 3 s at most).
    pub fn wait_for_ready(mut self, wait: WaitForReady) -> Self {
        self.settings.common.wait_for_ready = wait;
        self
    }

    /// Sets how many bytes of a request are kept for another attempt (default 1 MiB). When more of it
    /// has been sent, the call goes on with the attempt that is under way, and no other follows.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.settings.common.replay_limit = bytes;
        self
    }

    /// Sets how many bytes all calls together keep for other attempts (default 16 MiB). Requests of up to
    /// 4 KiB that are there whole are not counted.
    pub fn replay_buffer(mut self, bytes: usize) -> Self {
        self.settings.common.replay_buffer = Arc::new(ReplayBuffer::new(bytes));
        self
    }

    /// Leaves instances out for a time that fail more than the others (default: off). [`ByStatus`] says
    /// what a failure is.
    ///
    /// Of pooled connections nobody knows whether they would stand, so without it a dead instance is
    /// picked as often as any other, until the registry drops it: each such call is tried elsewhere, which
    /// costs it a refused connection, or a connect timeout.
    pub fn outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.settings.common.outlier_detection = Some(detection);
        self
    }

    /// Sets how the set of endpoints is kept.
    pub fn endpointer(mut self, endpointer: EndpointerBuilder) -> Self {
        self.settings.common.endpointer = endpointer;
        self
    }

    /// What the builder was made with.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// The same settings for another target.
    pub fn with_target<U>(self, target: U) -> ClientBuilder<U> {
        ClientBuilder { target, settings: self.settings }
    }
}

impl<T> ClientBuilder<T> {
    /// Starts to follow the instances, over the default [`Pool`]; returns at once.
    ///
    /// Outside of a tokio runtime nothing can be followed: then every call ends with an error that says so.
    pub fn build(self) -> Client
    where
        T: Instancer,
    {
        self.build_on(Pool::new())
    }

    /// As [`build`](Self::build), with a client for each instance that `factory` makes: a [`Pool`] with
    /// other settings, a closure that points any client at the instance by
    /// [`Origin::new`](crate::Origin::new), or either of them
    /// with layers around it, such as a [`ConcurrencyLimit`](fleetward_core::limit::ConcurrencyLimit):
    ///
    /// ```
    /// use fleetward_core::Instance;
    /// use fleetward_core::discovery::FixedInstancer;
    /// use fleetward_core::limit::ConcurrencyLimit;
    /// use fleetward_http::{Client, Pool};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let list = FixedInstancer::new("shop", [Instance::new("10.0.0.1:80")?]);
    /// let limit = ConcurrencyLimit::new(100).queue(20);
    /// let client = Client::builder(list).build_on(limit.per_instance(Pool::new()));
    /// # Ok::<(), fleetward_core::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A call that a full instance turns away goes to another one.
    ///
    /// Outside of a tokio runtime nothing can be followed: then every call ends with an error that says so.
    pub fn build_on<S>(self, factory: impl Factory<S>) -> Client<S>
    where
        T: Instancer,
        S: Clone + Send + Sync + 'static,
    {
        let Self { target, settings } = self;
        let protocol = Balanced::builder()
            .observer(ByStatus)
            .lookup(header::<RequestBody>)
            .operation(operation::<RequestBody>);
        let balanced = settings.common.balanced(target, factory, protocol);
        let (retried, once) = (settings.retried(), settings.once());
        Client { shared: Arc::new(ClientParts { balanced, settings, retried, once }) }
    }
}

impl<T> fmt::Debug for ClientBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the target: it may be a URL with a password in it.
        f.debug_struct("ClientBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
