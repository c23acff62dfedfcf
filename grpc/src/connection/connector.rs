//! The factory of connections.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use fleetward_core::endpoints::Readiness;
use fleetward_core::{Error, ErrorKind, Factory, Instance};
use http::uri::{Authority, Scheme};
use tokio::sync::oneshot;

use super::call::Peer;
use super::dial::Dialer;
use super::keeper::Keeper;
use super::link::Link;
use super::{Connection, ConnectionConfig, Inner};

/// Makes one [`Connection`] for each instance; a [`Factory`] for an
/// [`Endpointer`](fleetward_core::Endpointer).
///
/// A [`Channel`](crate::Channel) has one inside. Use it alone to put middleware of your own between
/// the connections and the balancing:
///
/// ```
/// use fleetward_balancers::RoundRobin;
/// use fleetward_core::{Balanced, DefaultEndpointer, Instance};
/// use fleetward_core::discovery::FixedInstancer;
/// use fleetward_grpc::{Connection, ConnectionConfig, Connector};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("greeter", [Instance::new("127.0.0.1:50051")?]);
/// let connector = Connector::new(ConnectionConfig::default());
/// let endpointer = DefaultEndpointer::<Connection>::new(list, connector);
/// let service = Balanced::new(endpointer, RoundRobin::new());
/// # Ok::<(), fleetward_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Connector {
    dialer: Arc<Dialer>,
}

impl Connector {
    /// Connects in plaintext.
    pub fn new(config: ConnectionConfig) -> Self {
        Self { dialer: Arc::new(Dialer::new(config)) }
    }

    /// Connects in TLS.
    #[cfg(feature = "tls")]
    pub fn with_tls(config: ConnectionConfig, tls: crate::ClientTls) -> Self {
        let mut dialer = Dialer::new(config);
        dialer.tls = Some(tls);
        Self { dialer: Arc::new(dialer) }
    }
}

#[async_trait]
impl Factory<Connection> for Connector {
    /// Returns at once; the connection is made by a task of its own and shows by `readiness`.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for an instance that asks for `https` while no TLS is
    /// configured: it is never talked to in plaintext; and outside of a tokio runtime.
    async fn make(
        &self,
        instance: &Arc<Instance>,
        readiness: Readiness,
    ) -> Result<Connection, Error> {
        let address = instance.address();
        let tls = self.dialer.is_tls();
        if !tls && address.scheme() == Some("https") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the instance asks for https, but no TLS is configured",
            )
            .with_context("address", address));
        }
        let config = &self.dialer.config;
        let authority = match &config.authority {
            Some(authority) => authority.clone(),
            None => address.authority().parse::<Authority>().map_err(|error| {
                Error::invalid_data("the address makes no authority").with_source(error)
            })?,
        };
        let runtime = fleetward_core::task::current_runtime("connect")?;
        let link = Arc::new(Link::default());
        let (handle, held) = oneshot::channel();
        readiness.set_connecting();
        let (dialer, said) = (self.dialer.clone(), readiness.clone());
        let keeper = Keeper::new(dialer, instance.clone(), said, link.clone());
        runtime.spawn(keeper.run(held));
        let peer = Peer {
            instance: instance.id().clone(),
            scheme: if tls { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
            authority_is_forced: config.authority.is_some(),
            user_agent: config.user_agent.clone(),
            readiness,
        };
        Ok(Connection::new(Inner { peer: Arc::new(peer), link, _handle: handle }))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("config", &self.dialer.config)
            .field("tls", &self.dialer.is_tls())
            .finish_non_exhaustive()
    }
}
