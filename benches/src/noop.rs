//! A service that does nothing, and endpoints of it: what is left is the cost of the layers.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::endpoints::{EndpointerBuilder, Readiness};
use fleetward_core::{DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance};
use tokio::runtime::Runtime;
use tower_service::Service;

use crate::error::Result;
use crate::members::{self, Weights};

/// Answers at once with what it was given; not ready, if it is to be unhealthy.
#[derive(Clone, Debug)]
pub(crate) struct NoOp {
    /// As in a client: something that is shared by clones.
    _connection: Arc<()>,
    is_ready: bool,
}

impl NoOp {
    pub(crate) fn new(is_ready: bool) -> Self {
        Self { _connection: Arc::new(()), is_ready }
    }
}

impl Service<u64> for NoOp {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<std::result::Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        if self.is_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// An endpointer that has settled, and the runtime that its task needs. The runtime runs only while
/// something is measured in it, so between two picks nothing happens.
pub(crate) struct Endpoints {
    pub(crate) runtime: Runtime,
    pub(crate) endpointer: DefaultEndpointer<NoOp>,
}

impl Endpoints {
    pub(crate) fn new(size: usize, unhealthy: usize, weights: Weights) -> Result<Self> {
        Self::with(DefaultEndpointer::builder(), size, unhealthy, weights)
    }

    pub(crate) fn with(
        builder: EndpointerBuilder,
        size: usize,
        unhealthy: usize,
        weights: Weights,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let instances = (0..size)
            .map(|i| members::instance(i, weights))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let down = (0..size).filter(|&i| members::is_unhealthy(i, unhealthy));
        let down = down.map(|i| instances[i].id().clone()).collect();
        let healthy = (0..size).filter(|&i| !members::is_unhealthy(i, unhealthy)).count();
        let endpointer = runtime.block_on(async {
            let list = FixedInstancer::new("measured", instances);
            let endpointer = builder.build(list, Connected { down });
            endpointer
                .endpoints()
                .wait_for(|set| set.ready().len() == healthy && set.known() == size)
                .await;
            endpointer
        });
        Ok(Self { runtime, endpointer })
    }
}

/// Connects to all but some.
struct Connected {
    down: std::collections::HashSet<fleetward_core::InstanceId>,
}

#[async_trait]
impl Factory<NoOp> for Connected {
    async fn make(
        &self,
        instance: &Arc<Instance>,
        readiness: Readiness,
    ) -> std::result::Result<NoOp, Error> {
        let is_down = self.down.contains(instance.id());
        if is_down {
            readiness.set_failed(Error::new(ErrorKind::Unavailable, "down"));
        }
        Ok(NoOp::new(!is_down))
    }
}
