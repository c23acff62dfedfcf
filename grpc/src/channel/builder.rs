//! Settings of a channel.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use fleetward_client::{ClientSettings, ReplayBuffer};
use fleetward_core::balancing::WaitForReady;
use fleetward_core::endpoints::{EndpointerBuilder, Operation, Readiness};
use fleetward_core::health::{HealthCheck, HealthChecked};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::retry::RetryBudget;
use fleetward_core::{Balanced, Balancer, Error, Factory, Instance, Instancer};
use tonic::body::Body;

use super::observer::ByStatus;
use super::plan::{Defaults, Further, Plans};
use super::{Channel, ChannelParts};
use crate::service_config::MethodName;
use crate::{
    Connection, ConnectionConfig, Connector, GrpcHealth, HedgingPolicy, RetryPolicy, ServiceConfig,
};

impl Channel {
    /// A channel with the default settings to the instances that `instancer` names. Returns at once;
    /// calls wait for the first connection.
    ///
    /// Outside of a tokio runtime nothing can be followed: then every call ends with an error that says so.
    pub fn new(instancer: impl Instancer) -> Self {
        Self::builder(instancer).build()
    }

    /// Sets up a channel to `target`: an [`Instancer`], or what will be exchanged for one.
    pub fn builder<T>(target: T) -> ChannelBuilder<T> {
        ChannelBuilder::new(target)
    }
}

/// Settings of a [`Channel`] to the service that `T` names.
///
/// `T` is anything until [`build`](Self::build) needs an [`Instancer`]: what stands for one (a URL,
/// say) is exchanged for it by [`with_target`](Self::with_target).
#[must_use]
pub struct ChannelBuilder<T> {
    target: T,
    connection: ConnectionConfig,
    health_check: Option<Arc<dyn HealthCheck<Connection>>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::ClientTls>,
    defaults: Defaults,
    service_config: Option<ServiceConfig>,
}

impl<T> ChannelBuilder<T> {
    pub(super) fn new(target: T) -> Self {
        Self {
            target,
            connection: ConnectionConfig::default(),
            health_check: None,
            #[cfg(feature = "tls")]
            tls: None,
            defaults: Defaults::default(),
            service_config: None,
        }
    }

    /// Sets which endpoint a call goes to (default: [`PeakEwma`](fleetward_balancers::PeakEwma), see docs/balancers.md for why).
    pub fn balancer(mut self, balancer: impl Balancer + 'static) -> Self {
        self.defaults.common.balancer = Some(Arc::new(balancer));
        self
    }

    /// Sets which endpoint a call goes to, unless [`balancer`](Self::balancer) has: for what a URL
    /// or a configuration says.
    pub fn balancer_or(mut self, balancer: impl FnOnce() -> Arc<dyn Balancer>) -> Self {
        self.defaults.common.balancer.get_or_insert_with(balancer);
        self
    }

    /// Tries failed calls again, of every method for which the service config says nothing else
    /// (default: only those that no server can have acted on). Takes the place of
    /// [`hedge`](Self::hedge).
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.defaults.attempts = Further::Retry(policy);
        self
    }

    /// Sends calls that are slow a second time, of every method for which the service config says
    /// nothing else (default: none). Takes the place of [`retry`](Self::retry).
    pub fn hedge(mut self, policy: HedgingPolicy) -> Self {
        self.defaults.attempts = Further::Hedge(policy);
        self
    }

    /// Names methods whose calls may be carried out more than once: `"/greet.Greeter/Hello"`, all of a
    /// service (`"greet.Greeter"`), or all (`"*"`).
    ///
    /// Such a call goes to another instance as well if the first one has not answered within half a
    /// second, and the first answer counts ([`HedgingPolicy::idempotent`]). Without this, a call that an
    /// instance may have received is never sent twice, so one at an instance that hangs ends at its
    /// deadline. A method for which the service config has a policy keeps that; the codes of
    /// [`retry`](Self::retry) count here too, and [`hedge`](Self::hedge) takes the place of the half
    /// second.
    ///
    /// ```
    /// use fleetward_core::Instance;
    /// use fleetward_core::discovery::FixedInstancer;
    /// use fleetward_grpc::{Channel, RetryPolicy};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let list = FixedInstancer::new("greeter", [Instance::new("127.0.0.1:50051")?]);
    /// let channel = Channel::builder(list)
    ///     .retry(RetryPolicy::default())
    ///     .idempotent(["/greet.Greeter/Hello", "shop.Catalogue"])?
    ///     .build();
    /// # Ok::<(), fleetward_core::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for what names no method, service or all.
    pub fn idempotent<M: AsRef<str>>(
        mut self,
        methods: impl IntoIterator<Item = M>,
    ) -> Result<Self, Error> {
        for method in methods {
            self.defaults.idempotent.push(MethodName::parse(method.as_ref())?);
        }
        Ok(self)
    }

    /// Sets what bounds the further attempts of all calls together (default:
    /// [`RatioBudget`](fleetward_core::retry::RatioBudget), a fifth of the calls and ten a second). The
    /// `retryThrottling` of a service config takes its place.
    pub fn retry_budget(mut self, budget: Arc<dyn RetryBudget>) -> Self {
        self.defaults.common.retry_budget = budget;
        self
    }

    /// Calls the service as its owner wants it: retries, hedging, deadlines and throttling by method, and,
    /// where the builder has none, its balancer, outlier detection and health check.
    pub fn service_config(mut self, config: ServiceConfig) -> Self {
        self.service_config = Some(config);
        self
    }

    /// Sets what a call does that finds no endpoint ready (default: wait 3 s at most).
    pub fn wait_for_ready(mut self, wait: WaitForReady) -> Self {
        self.defaults.common.wait_for_ready = wait;
        self
    }

    /// Sets the deadline of calls that bring none of their own (default: none). It covers what a
    /// `grpc-timeout` covers: everything up to the end of the response's body.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.defaults.common.timeout = Some(timeout);
        self
    }

    /// Sets how many bytes of a request are kept for another attempt (default 1 MiB). When more of it
    /// has been sent, the call goes on with the attempt that is under way, and no other follows.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.defaults.common.replay_limit = bytes;
        self
    }

    /// Leaves instances out for a time that fail more than the others (default: off). A call counts as a
    /// failure of its instance if it ends in UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL,
    /// UNAVAILABLE or DATA_LOSS, if the answer is not gRPC, or if it misses the deadline here. An instance
    /// that answers several methods with other errors where others answer them well is left out too.
    pub fn outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.defaults.common.outlier_detection = Some(detection);
        self
    }

    /// Sets how many bytes all calls together keep for other attempts (default 16 MiB). Requests of up to
    /// 4 KiB that are there whole are not counted.
    pub fn replay_buffer(mut self, bytes: usize) -> Self {
        self.defaults.common.replay_buffer = Arc::new(ReplayBuffer::new(bytes));
        self
    }

    /// Sets how connections are made and kept.
    pub fn connection(mut self, config: ConnectionConfig) -> Self {
        self.connection = config;
        self
    }

    /// Sets how the set of endpoints is kept.
    pub fn endpointer(mut self, endpointer: EndpointerBuilder) -> Self {
        self.defaults.common.endpointer = endpointer;
        self
    }

    /// Checks the health of each instance, by gRPC's own protocol
    /// ([`GrpcHealth`](crate::GrpcHealth)), by another probe in
    /// [`Probing`](fleetward_core::health::Probing), or by a check of your own (default: none).
    ///
    /// An instance takes no call before the check has found it well for the first time.
    pub fn health_check(mut self, check: impl HealthCheck<Connection>) -> Self {
        self.health_check = Some(Arc::new(check));
        self
    }

    /// Talks TLS to the instances (default: plaintext). Needs the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What the builder was made with.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// The same settings for another target.
    pub fn with_target<U>(self, target: U) -> ChannelBuilder<U> {
        ChannelBuilder {
            target,
            connection: self.connection,
            health_check: self.health_check,
            #[cfg(feature = "tls")]
            tls: self.tls,
            defaults: self.defaults,
            service_config: self.service_config,
        }
    }
}

impl<T> ChannelBuilder<T> {
    /// What makes the connections by these settings: those of [`connection`](Self::connection), TLS, and the
    /// health check, be it that of the service config.
    ///
    /// To put something around it for [`build_on`](Self::build_on).
    pub fn connector(&self) -> impl Factory<Connection> + use<T> {
        let config = self.service_config.as_ref();
        let named = || {
            let service = config?.health_check_service()?;
            Some(Arc::new(GrpcHealth::service(service)) as Arc<dyn HealthCheck<Connection>>)
        };
        match self.health_check.clone().or_else(named) {
            Some(check) => Connecting::Checked(HealthChecked::new(self.unchecked(), check)),
            None => Connecting::Unchecked(self.unchecked()),
        }
    }

    fn unchecked(&self) -> Connector {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Connector::with_tls(self.connection.clone(), tls.clone());
        }
        Connector::new(self.connection.clone())
    }
}

impl<T> ChannelBuilder<T> {
    /// Starts to follow the instances and to connect to them; returns at once.
    ///
    /// Outside of a tokio runtime nothing can be followed: then every call ends with an error that says so.
    pub fn build(self) -> Channel
    where
        T: Instancer,
    {
        let connector = self.connector();
        self.build_on(connector)
    }

    /// As [`build`](Self::build), on what `factory` makes of each instance: a
    /// [`Connection`] with layers around it, such as a limit on its calls, or any other client of HTTP/2. Layers may
    /// change the response's body. Of a client other than a [`Connection`] it is not known whether a request that
    /// failed has left, so that one is tried again by its status only.
    ///
    /// ```
    /// use fleetward_core::Instance;
    /// use fleetward_core::discovery::FixedInstancer;
    /// use fleetward_core::limit::ConcurrencyLimit;
    /// use fleetward_grpc::Channel;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let list = FixedInstancer::new("greeter", [Instance::new("127.0.0.1:50051")?]);
    /// let builder = Channel::builder(list);
    /// let limited = ConcurrencyLimit::new(100).queue(20).per_instance(builder.connector());
    /// let channel = builder.build_on(limited);
    /// let client = tonic::client::Grpc::new(channel);
    /// # Ok::<(), fleetward_core::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A call that a full instance turns away goes to another one. What the builder says about connections,
    /// TLS and health checks is in its [`connector`](Self::connector); a factory without that goes without
    /// them.
    ///
    /// Outside of a tokio runtime nothing can be followed: then every call ends with an error that says so.
    pub fn build_on<S>(mut self, factory: impl Factory<S>) -> Channel<S>
    where
        T: Instancer,
        S: Clone + Send + Sync + 'static,
    {
        let config = self.service_config.take().unwrap_or_default();
        self.take_over(&config);
        let protocol = Balanced::builder().observer(ByStatus).lookup(metadata).operation(method);
        let balanced = self.defaults.common.balanced(self.target, factory, protocol);
        let service = balanced.endpoints().service();
        let plans = Plans::new(service, &config, &self.defaults, None);
        Channel {
            shared: Arc::new(ChannelParts {
                balanced,
                plans: ArcSwap::from_pointee(plans),
                defaults: self.defaults,
            }),
        }
    }

    /// What the service config says about balancing, where the builder says nothing.
    fn take_over(&mut self, config: &ServiceConfig) {
        let ClientSettings { balancer, outlier_detection, .. } = &mut self.defaults.common;
        *balancer = balancer.take().or_else(|| config.make_balancer());
        *outlier_detection =
            outlier_detection.take().or_else(|| config.outlier_detection().cloned());
    }
}

enum Connecting {
    Unchecked(Connector),
    Checked(HealthChecked<Connector, Arc<dyn HealthCheck<Connection>>>),
}

#[async_trait]
impl Factory<Connection> for Connecting {
    async fn make(
        &self,
        instance: &Arc<Instance>,
        readiness: Readiness,
    ) -> Result<Connection, Error> {
        match self {
            Self::Unchecked(connector) => connector.make(instance, readiness).await,
            Self::Checked(checked) => checked.make(instance, readiness).await,
        }
    }
}

/// Finds a metadata entry, for balancers that go by a key of the request.
fn metadata<'a>(request: &'a dyn Any, name: &str) -> Option<&'a [u8]> {
    let request = request.downcast_ref::<http::Request<Body>>()?;
    Some(request.headers().get(name)?.as_bytes())
}

/// Errors that may be the caller's fault are weighed by method.
fn method(request: &dyn Any) -> Operation {
    let request = request.downcast_ref::<http::Request<Body>>();
    request.map(|request| Operation::named(request.uri().path().as_bytes())).unwrap_or_default()
}

impl<T> fmt::Debug for ChannelBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the target: it may be a URL with a password in it.
        f.debug_struct("ChannelBuilder")
            .field("connection", &self.connection)
            .field("health_check", &self.health_check.is_some())
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}
