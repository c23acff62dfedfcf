//! gRPC's service config: what a service's owner has to say about how it is called.
//!
//! A configuration is taken whole or not at all (gRFC A21), so that no client ever runs on half of what
//! was meant. A value is either what it says or an error; of fields that gRPC has and that can have no effect
//! here, an event tells.

mod balancing;
mod builder;
mod duration;
mod json;
mod method;
mod methods;
mod outlier;
#[cfg(test)]
mod tests;
mod throttling;

use std::str::FromStr;
use std::sync::Arc;

use fleetward_balancers::{Balancers, Named};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{Balancer, Error, ErrorKind};

pub use self::builder::ServiceConfigBuilder;
use self::json::Node;
pub use self::method::MethodConfig;
use self::methods::Name;
pub(crate) use self::methods::{MethodName, Methods};
pub use self::throttling::RetryThrottling;

/// How a service wants to be called: gRPC's [service config], as clients in other languages use it.
///
/// ```
/// use std::time::Duration;
/// use fleetward_grpc::ServiceConfig;
/// let config = ServiceConfig::parse(r#"{
///     "loadBalancingConfig": [{"round_robin": {}}],
///     "methodConfig": [
///         {"name": [{}], "timeout": "10s"},
///         {"name": [{"service": "greet.Greeter", "method": "Hello"}],
///          "timeout": "1.5s",
///          "retryPolicy": {
///              "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s",
///              "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}
///     ],
///     "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
/// }"#)?;
/// assert_eq!(config.balancer(), Some("round_robin"));
/// let hello = config.method("/greet.Greeter/Hello");
/// assert_eq!(hello.timeout(), Some(Duration::from_millis(1500)));
/// assert_eq!(hello.retry().map(|policy| policy.max_attempts()), Some(4));
/// assert_eq!(config.method("/other.Service/Get").timeout(), Some(Duration::from_secs(10)));
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// The same in code, with the same rules, is [`ServiceConfig::builder`].
///
/// # What is read
///
/// | field | rule |
/// |---|---|
/// | `methodConfig[].name[]` | `service` and `method`, `service` alone, or `{}` for all others; the most specific wins; a name stands once |
/// | `waitForReady` | a boolean |
/// | `timeout` | a duration, `"1.5s"` |
/// | `maxRequestMessageBytes`, `maxResponseMessageBytes` | [not enforced](MethodConfig::max_request_message_bytes) |
/// | `retryPolicy` | see below; not together with `hedgingPolicy` |
/// | … `maxAttempts` | required, at least 2; more than 5 is 5 |
/// | … `initialBackoff`, `maxBackoff`, `backoffMultiplier` | required, above 0; a multiplier below 1 is 1 |
/// | … `retryableStatusCodes` | names (in any case) or numbers, not OK; required unless there is a `perAttemptRecvTimeout` |
/// | … `perAttemptRecvTimeout` | above 0 (experimental in gRPC) |
/// | `hedgingPolicy` | `maxAttempts` as above; `hedgingDelay` (0: all at once); `nonFatalStatusCodes` (none) |
/// | `retryThrottling` | `maxTokens` from 1 to 1000, `tokenRatio` above 0, of which three decimals count |
/// | `loadBalancingConfig[]` | the first policy that is known; none is an error |
/// | `loadBalancingPolicy` | a policy's name, if there is no `loadBalancingConfig` |
/// | `healthCheckConfig.serviceName` | [`health_check_service`](Self::health_check_service) |
///
/// A field that is not in the table is ignored, and one that is `null` is absent. One that differs from
/// a known one only by case is an error. Anything else that is not as it should be is an error for the whole
/// configuration, and names the place.
///
/// # Policies
///
/// | policy | settings |
/// |---|---|
/// | `round_robin` | none |
/// | `weighted_round_robin` | gRPC's, checked but without effect, which an event says: weights are the registry's, not load reports' |
/// | `least_request_experimental` | `choiceCount`: 2, at least 2; more than 10 is 10 |
/// | `ring_hash_experimental` | `minRingSize` 1024, `maxRingSize` 4096, either at most 4096; `requestHashHeader`, required |
/// | `outlier_detection_experimental` | gRPC's, with a `childPolicy` that is not outlier detection; `enforcementPercentage` is 0 or 100 |
/// | any name of [`by_name`](fleetward_balancers::by_name) | its options: `{"peak_ewma": {"choices": 3}}`; a `childPolicy` is its option `balancer` |
///
/// `pick_first` is not known, as a channel here has a connection to every instance. A list for clients of
/// all kinds names it last. Nor are `random_subsetting_experimental` and `priority_experimental`: a subset is an
/// option of the registry's URL (`subset=20`), and `priority` tells groups by what the registry says of
/// instances. They are passed over where another policy of the list is known.
///
/// # Sources
///
/// [`service_config.proto`], and gRFCs [A2] (the document), [A21] (errors), [A24] (policies), [A6]
/// (retries), [A42] and [A76] (ring hash), [A48] (least request), [A50] (outliers), [A58] (weights).
///
/// [service config]: https://grpc.io/docs/guides/service-config/
/// [`service_config.proto`]: https://github.com/grpc/grpc-proto/blob/master/grpc/service_config/service_config.proto
/// [A2]: https://github.com/grpc/proposal/blob/master/A2-service-configs-in-dns.md
/// [A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
/// [A21]: https://github.com/grpc/proposal/blob/master/A21-service-config-error-handling.md
/// [A24]: https://github.com/grpc/proposal/blob/master/A24-lb-policy-config.md
/// [A42]: https://github.com/grpc/proposal/blob/master/A42-xds-ring-hash-lb-policy.md
/// [A48]: https://github.com/grpc/proposal/blob/master/A48-xds-least-request-lb-policy.md
/// [A50]: https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md
/// [A58]: https://github.com/grpc/proposal/blob/master/A58-client-side-weighted-round-robin-lb-policy.md
/// [A76]: https://github.com/grpc/proposal/blob/master/A76-ring-hash-improvements.md
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceConfig {
    methods: Methods,
    balancer: Option<Named>,
    outlier: Option<OutlierDetection>,
    throttling: Option<RetryThrottling>,
    health: Option<String>,
}

impl ServiceConfig {
    /// The longest text that is read: four times what a DNS record can hold.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// Reads and checks a configuration in JSON.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for what is not JSON, and for a value that is not as it
    /// should be: `methodConfig[1].retryPolicy.maxAttempts: must be at least 2`.
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for more than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn parse(json: &str) -> Result<Self, Error> {
        Self::parse_with(json, Balancers::built_in())
    }

    /// As [`parse`](Self::parse), where a policy may also be one of these balancers.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(json: &str, balancers: &Balancers) -> Result<Self, Error> {
        read(json, balancers).map_err(|error| error.with_operation("service config"))
    }

    pub(crate) fn methods(&self) -> &Methods {
        &self.methods
    }

    /// What holds for calls of this path, `/package.Service/Method`: the configuration of the method, or
    /// else of its service, or else of all others, or else one that says nothing. They are never mixed.
    /// Does not allocate.
    pub fn method(&self, path: &str) -> &MethodConfig {
        self.methods.get(path)
    }

    /// Which endpoint a call goes to, as [`by_name`](fleetward_balancers::by_name) takes it and has
    /// taken it already.
    pub fn balancer(&self) -> Option<&str> {
        self.balancer.as_ref().map(Named::as_str)
    }

    pub(crate) fn make_balancer(&self) -> Option<Arc<dyn Balancer>> {
        self.balancer.as_ref().map(Named::make)
    }

    /// When instances are left out for a time.
    pub fn outlier_detection(&self) -> Option<&OutlierDetection> {
        self.outlier.as_ref()
    }

    /// How far the service may fail before there are no further attempts.
    pub fn retry_throttling(&self) -> Option<RetryThrottling> {
        self.throttling
    }

    /// The service that is asked after when instances are asked about their health, empty for the server
    /// as a whole; none asks for no such checks (gRFC A17).
    pub fn health_check_service(&self) -> Option<&str> {
        self.health.as_deref()
    }
}

impl FromStr for ServiceConfig {
    type Err = Error;

    fn from_str(json: &str) -> Result<Self, Error> {
        Self::parse(json)
    }
}

fn read(json: &str, balancers: &Balancers) -> Result<ServiceConfig, Error> {
    if json.len() > ServiceConfig::MAX_BYTES {
        return Err(Error::new(ErrorKind::LimitExceeded, "the text is too long")
            .with_context("bytes", json.len())
            .with_context("limit", ServiceConfig::MAX_BYTES));
    }
    let value = json::parse(json)?;
    let config = Node::new(&value, "");
    let mut methods = Methods::default();
    config.get("methodConfig", |list| {
        list.items()?.try_for_each(|item| read_method(&item, &mut methods))
    })?;
    let balancing = config.get("loadBalancingConfig", |list| balancing::read(list, balancers))?;
    let is_missing = balancing.is_none();
    // Looked for in any case, for it may be there by another name.
    let older = config.get("loadBalancingPolicy", |node| match is_missing {
        true => balancing::read_name(node, balancers),
        false => Ok(None),
    })?;
    let balancing = balancing.or(older.flatten());
    let (balancer, outlier) = balancing.map(|it| (it.balancer, it.outlier)).unzip();
    let health = |node: &Node<'_>| node.get("serviceName", |name| Ok(name.text()?.to_owned()));
    Ok(ServiceConfig {
        methods,
        balancer,
        outlier: outlier.flatten(),
        throttling: config.get("retryThrottling", RetryThrottling::read)?,
        health: config.get("healthCheckConfig", health)?.flatten(),
    })
}

/// One without names is checked and then is for nothing.
fn read_method(node: &Node<'_>, methods: &mut Methods) -> Result<(), Error> {
    let config = Arc::new(MethodConfig::read(node)?);
    node.get("name", |names| {
        names.items()?.try_for_each(|item| {
            let name = Name::read(&item)?;
            methods.insert(name, config.clone()).map_err(|why| item.error(why))
        })
    })?;
    Ok(())
}
