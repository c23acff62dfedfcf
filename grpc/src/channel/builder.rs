//! Settings of a channel.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::PeakEwma;
use fleetward_core::{
    Balanced, Balancer, EndpointerBuilder, HealthCheck, HealthChecked, Instancer, OutlierDetection,
    WaitForReady,
};

use tonic::body::Body;

use super::observer::ByStatus;
use super::{Channel, Settings, Shared};
use crate::{Connection, ConnectionConfig, Connector, RetryPolicy};

/// Settings of a [`Channel`] to the service that `T` names.
///
/// `T` is anything until [`build`](Self::build) needs an [`Instancer`]: what stands for one (a URL,
/// say) is exchanged for it by [`with_target`](Self::with_target).
#[must_use]
pub struct ChannelBuilder<T> {
    target: T,
    balancer: Option<Arc<dyn Balancer>>,
    wait: WaitForReady,
    connection: ConnectionConfig,
    endpointer: EndpointerBuilder,
    health_check: Option<Arc<dyn HealthCheck<Connection>>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::ClientTls>,
    settings: Settings,
}

impl<T> ChannelBuilder<T> {
    pub(super) fn new(target: T) -> Self {
        Self {
            target,
            balancer: None,
            wait: WaitForReady::default(),
            connection: ConnectionConfig::default(),
            endpointer: EndpointerBuilder::default(),
            health_check: None,
            #[cfg(feature = "tls")]
            tls: None,
            settings: Settings { retry: None, timeout: None, replay_limit: 1 << 20 },
        }
    }

    /// Sets which endpoint a call goes to (default: [`PeakEwma`], see docs/balancers.md for why).
    pub fn balancer(mut self, balancer: impl Balancer + 'static) -> Self {
        self.balancer = Some(Arc::new(balancer));
        self
    }

    /// Sets which endpoint a call goes to, unless [`balancer`](Self::balancer) has: for what a URL
    /// or a configuration says.
    pub fn balancer_or(mut self, balancer: impl FnOnce() -> Arc<dyn Balancer>) -> Self {
        self.balancer.get_or_insert_with(balancer);
        self
    }

    /// Tries failed calls again (default: only those that no server can have acted on).
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = Some(policy);
        self
    }

    /// Sets what a call does that finds no endpoint ready (default: wait 3 s at most).
    pub fn wait_for_ready(mut self, wait: WaitForReady) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the deadline of calls that bring none of their own (default: none). It covers what a
    /// `grpc-timeout` covers: everything up to the end of the response's body.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Sets how large a request's body may be, in bytes, to be kept for another attempt (default 1
    /// MiB). A larger one is sent once.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.settings.replay_limit = bytes;
        self
    }

    /// Leaves instances out for a time that fail more than the others (default: off). A call counts as a
    /// failure of its instance if it ends in UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL,
    /// UNAVAILABLE or DATA_LOSS, or misses the deadline here.
    pub fn outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.endpointer = self.endpointer.outlier_detection(detection);
        self
    }

    /// Sets how connections are made and kept.
    pub fn connection(mut self, config: ConnectionConfig) -> Self {
        self.connection = config;
        self
    }

    /// Sets how the set of endpoints is kept. Replaces what
    /// [`outlier_detection`](Self::outlier_detection) has set.
    pub fn endpointer(mut self, endpointer: EndpointerBuilder) -> Self {
        self.endpointer = endpointer;
        self
    }

    /// Checks the health of each instance, by gRPC's own protocol
    /// ([`GrpcHealth`](crate::GrpcHealth)), by another probe in
    /// [`Probing`](fleetward_core::Probing), or by a check of your own (default: none).
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
            balancer: self.balancer,
            wait: self.wait,
            connection: self.connection,
            endpointer: self.endpointer,
            health_check: self.health_check,
            #[cfg(feature = "tls")]
            tls: self.tls,
            settings: self.settings,
        }
    }
}

impl<I: Instancer> ChannelBuilder<I> {
    /// Starts to follow the instances and to connect to them; returns at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn build(self) -> Channel {
        let connector = self.connector();
        let endpointer = match self.health_check {
            Some(check) => self.endpointer.build(self.target, HealthChecked::new(connector, check)),
            None => self.endpointer.build(self.target, connector),
        };
        let balancer = self.balancer.unwrap_or_else(|| Arc::new(PeakEwma::new()));
        let balanced = Balanced::builder()
            .observer(ByStatus)
            .lookup(metadata)
            .build(endpointer, balancer)
            .wait_for_ready(self.wait);
        Channel { shared: Arc::new(Shared { balanced, settings: self.settings }) }
    }

    fn connector(&self) -> Connector {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Connector::with_tls(self.connection.clone(), tls.clone());
        }
        Connector::new(self.connection.clone())
    }
}

/// Finds a metadata entry, for balancers that go by a key of the request.
fn metadata<'a>(request: &'a dyn Any, name: &str) -> Option<&'a [u8]> {
    let request = request.downcast_ref::<http::Request<Body>>()?;
    Some(request.headers().get(name)?.as_bytes())
}

impl<T> fmt::Debug for ChannelBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the target: it may be a URL with a password in it.
        f.debug_struct("ChannelBuilder")
            .field("balancer", &self.balancer)
            .field("wait_for_ready", &self.wait)
            .field("connection", &self.connection)
            .field("health_check", &self.health_check.is_some())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
