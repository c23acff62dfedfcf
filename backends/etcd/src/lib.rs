#![doc = include_str!("../README.md")]

mod client;
mod codec;
mod config;
mod registry;
mod source;

use std::fmt;
use std::sync::Arc;

use fleetward_core::Error;

use crate::client::Client;
use crate::codec::Codec;
pub use crate::config::{EtcdCodec, EtcdConfig};
pub use crate::registry::EtcdLease;
use crate::registry::{Attempts, OwnKeys};
pub use crate::source::EtcdCursor;

#[doc = include_str!("docs.md")]
#[derive(Clone)]
pub struct EtcdRegistry {
    client: Client,
    codec: Arc<dyn Codec>,
    page_size: u32,
    attempts: Arc<Attempts>,
    own_keys: Arc<OwnKeys>,
}

impl EtcdRegistry {
    /// Checks the configuration and reads its TLS files. Nothing is dialled: the first request
    /// connects, so a server that is down now is no error here.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput): a setting is wrong, or a TLS
    /// file is missing or unusable.
    /// [`Unsupported`](fleetward_core::ErrorKind::Unsupported): there is no tokio runtime.
    pub async fn connect(config: EtcdConfig) -> Result<Self, Error> {
        fleetward_core::task::current_runtime("connect")?;
        config.check()?;
        if let Some(endpoint) = config.exposed_endpoint() {
            tracing::warn!(endpoint, "dangerous: etcd's password is sent without TLS");
        }
        let (codec, page_size) = (codec::codec(&config), config.page_size());
        let client = Client::new(config).await?;
        let (attempts, own_keys) = (Arc::default(), Arc::default());
        Ok(Self { client, codec, page_size, attempts, own_keys })
    }
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdRegistry")
            .field("endpoints", &self.client.urls())
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn promised<T: Clone + fmt::Debug + Send + Sync + 'static>() {}
    promised::<EtcdRegistry>();
    promised::<EtcdConfig>();
    promised::<EtcdCursor>();
};
