//! A configuration that is written in code.

use std::sync::Arc;

use fleetward_balancers::Balancers;
use fleetward_core::Error;
use fleetward_core::outlier::OutlierDetection;

use super::methods::{Methods, Name};
use super::{MethodConfig, RetryThrottling, ServiceConfig};

impl ServiceConfig {
    /// Starts a configuration in code.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fleetward_grpc::{HedgingPolicy, MethodConfig, RetryPolicy, ServiceConfig};
    /// let hedged = MethodConfig::new().with_hedging(HedgingPolicy::new(Duration::from_millis(20)));
    /// let config = ServiceConfig::builder()
    ///     .method("/greet.Greeter/Hello", hedged)
    ///     .service("greet.Greeter", MethodConfig::new().with_retry(RetryPolicy::default()))
    ///     .every_other(MethodConfig::new().with_timeout(Duration::from_secs(5)))
    ///     .balancer("round_robin")
    ///     .build()?;
    /// assert!(config.method("/greet.Greeter/Goodbye").retry().is_some());
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    pub fn builder() -> ServiceConfigBuilder {
        ServiceConfigBuilder::default()
    }
}

/// Makes a [`ServiceConfig`] in code; what is wrong with it is an error of [`build`](Self::build).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ServiceConfigBuilder {
    methods: Vec<(Pattern, MethodConfig)>,
    balancer: Option<String>,
    outlier: Option<OutlierDetection>,
    throttling: Option<RetryThrottling>,
    health: Option<String>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Method(String),
    Service(String),
    Rest,
}

impl ServiceConfigBuilder {
    /// Configures a method by the path of its calls: `/greet.Greeter/Hello`.
    pub fn method(mut self, path: impl Into<String>, config: MethodConfig) -> Self {
        self.methods.push((Pattern::Method(path.into()), config));
        self
    }

    /// Configures the methods of a service that have no configuration of their own:
    /// `greet.Greeter`.
    pub fn service(mut self, service: impl Into<String>, config: MethodConfig) -> Self {
        self.methods.push((Pattern::Service(service.into()), config));
        self
    }

    /// Configures every method that has no configuration, nor has its service.
    pub fn every_other(mut self, config: MethodConfig) -> Self {
        self.methods.push((Pattern::Rest, config));
        self
    }

    /// Sets which endpoint a call goes to, by [name](fleetward_balancers::by_name):
    /// `peak_ewma?choices=2`.
    pub fn balancer(mut self, spec: impl Into<String>) -> Self {
        self.balancer = Some(spec.into());
        self
    }

    /// Leaves instances out for a time that fail more than the others.
    pub fn outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.outlier = Some(detection);
        self
    }

    /// Limits further attempts when the service fails.
    pub fn retry_throttling(mut self, throttling: RetryThrottling) -> Self {
        self.throttling = Some(throttling);
        self
    }

    /// Sets the service that is asked after when instances are asked about their health; the empty name
    /// asks after the server as a whole.
    pub fn health_check_service(mut self, service: impl Into<String>) -> Self {
        self.health = Some(service.into());
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for a path that is not of the form
    /// `/service/method`, what is configured twice, and an unknown balancer.
    pub fn build(self) -> Result<ServiceConfig, Error> {
        let mut methods = Methods::default();
        for (pattern, config) in self.methods {
            let named = |what: &str, name: &str, why| {
                Error::invalid_input(format!("the {what} {why}")).with_context("name", name)
            };
            let config = Arc::new(config);
            match &pattern {
                Pattern::Method(path) => Name::of_path(path)
                    .and_then(|name| methods.insert(name, config))
                    .map_err(|why| named("method", path, why))?,
                Pattern::Service(service) => Name::of_service(service)
                    .and_then(|name| methods.insert(name, config))
                    .map_err(|why| named("service", service, why))?,
                Pattern::Rest => methods
                    .insert(Name::REST, config)
                    .map_err(|why| named("rest", "every_other", why))?,
            }
        }
        let balancer = self.balancer.map(|spec| Balancers::built_in().named(&spec)).transpose()?;
        Ok(ServiceConfig {
            methods,
            balancer,
            outlier: self.outlier,
            throttling: self.throttling,
            health: self.health,
        })
    }
}
