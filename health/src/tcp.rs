//! Does it accept connections?

use async_trait::async_trait;
use fleetward_core::health::Probe;
use fleetward_core::{Error, Instance};

use crate::target::Target;

/// An instance is well when it accepts a TCP connection, which is closed at once.
///
/// It tells whether there is a process that listens, no more: the system accepts connections for a
/// process that hangs, until its backlog is full.
///
/// ```
/// use fleetward_core::health::Probing;
/// use fleetward_health::TcpProbe;
/// let check = Probing::new(TcpProbe::new());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TcpProbe {
    target: Target,
}

impl TcpProbe {
    /// Connects to the instance's own port.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects to another port of the instance's host.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for port 0.
    pub fn with_port(mut self, port: u16) -> Result<Self, Error> {
        self.target = Target::with_port(port)?;
        Ok(self)
    }
}

#[async_trait]
impl<S: Sync + 'static> Probe<S> for TcpProbe {
    async fn probe(&self, instance: &Instance, _: &S) -> Result<(), Error> {
        self.target.connect(instance).await.map(drop)
    }
}
