#![doc = include_str!("../README.md")]

mod channel;
mod codes;
mod connection;
mod deadline;
mod health;
mod hedging;
mod propagate;
mod retry;
mod service_config;
#[cfg(feature = "tls")]
mod tls;

pub use channel::{Channel, ChannelBuilder};
pub use connection::{
    Connection, ConnectionConfig, ConnectionError, Connector, ResponseBody, ResponseFuture,
};
pub use health::GrpcHealth;
pub use hedging::HedgingPolicy;
pub use propagate::{propagate_deadline, stamp_arrival};
pub use retry::RetryPolicy;
pub use service_config::{MethodConfig, RetryThrottling, ServiceConfig, ServiceConfigBuilder};
#[cfg(feature = "tls")]
pub use tls::ClientTls;

const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Channel>();
    shared::<Connection>();
    shared::<Connector>();
    shared::<HedgingPolicy>();
    shared::<RetryPolicy>();
    shared::<ServiceConfig>();
};
