#![doc = include_str!("../README.md")]

mod channel;
mod connection;
mod deadline;
mod health;
mod retry;
#[cfg(feature = "tls")]
mod tls;

pub use channel::{Channel, ChannelBuilder};
pub use connection::{Connection, ConnectionConfig, ConnectionError, Connector};
pub use health::GrpcHealth;
pub use retry::RetryPolicy;
#[cfg(feature = "tls")]
pub use tls::ClientTls;

const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Channel>();
    shared::<Connection>();
    shared::<Connector>();
    shared::<RetryPolicy>();
};
