#![doc = include_str!("../README.md")]

mod client;
mod deadline;
mod lookup;
mod observer;
mod origin;
mod pool;
mod request_body;
mod response_body;
mod retry;
mod retry_after;

pub use client::{Client, ClientBuilder};
pub use deadline::Timeout;
pub use lookup::{header, operation};
pub use observer::ByStatus;
pub use origin::{Origin, OriginError};
pub use pool::{Pool, Pooled, PooledBody, PooledFuture};
pub use request_body::RequestBody;
pub use response_body::ResponseBody;
pub use retry::RetryPolicy;

const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    const fn sendable<T: Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<Origin<Pooled>>();
    shared::<Pool>();
    shared::<RetryPolicy>();
    sendable::<RequestBody>();
    sendable::<OriginError>();
};
