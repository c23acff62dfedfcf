#![doc = include_str!("../README.md")]

mod client;
mod codec;
mod config;
mod pace;
mod registry;
mod source;

use std::fmt;
use std::sync::Arc;

use fleetward_core::Error;

use crate::client::Client;
pub use crate::config::{Consistency, ConsulCheck, ConsulConfig};
pub use crate::registry::ConsulLease;
use crate::registry::Leftovers;
pub use crate::source::ConsulCursor;

#[doc = include_str!("docs.md")]
#[derive(Clone)]
pub struct ConsulRegistry {
    client: Client,
    config: Arc<ConsulConfig>,
    leftovers: Arc<Leftovers>,
}

impl ConsulRegistry {
    /// Checks the configuration and reads its files. Nothing is dialled: the first request
    /// connects, so an agent that is down now is no error here.
    ///
    /// Where the configuration has no token, that in the environment is taken
    /// (`CONSUL_HTTP_TOKEN`, or the file that `CONSUL_HTTP_TOKEN_FILE` names).
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput): a setting is wrong, or a file is
    /// missing or unusable.
    /// [`Unsupported`](fleetward_core::ErrorKind::Unsupported): there is no tokio runtime.
    pub async fn connect(config: ConsulConfig) -> Result<Self, Error> {
        fleetward_core::task::current_runtime("connect")?;
        let config = config.with_environment();
        config.check()?;
        if let Some(agent) = config.exposed_agent() {
            tracing::warn!(agent, "dangerous: Consul's token is sent without TLS");
        }
        let config = Arc::new(config);
        let client = Client::new(config.clone()).await?;
        Ok(Self { client, config, leftovers: Arc::default() })
    }
}

impl fmt::Debug for ConsulRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulRegistry")
            .field("agents", &self.client.agents())
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn promised<T: Clone + fmt::Debug + Send + Sync + 'static>() {}
    promised::<ConsulRegistry>();
    promised::<ConsulConfig>();
};
