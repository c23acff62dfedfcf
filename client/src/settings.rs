//! The settings that the clients of all protocols have.

use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::PeakEwma;
use fleetward_core::balancing::{BalancedBuilder, WaitForReady};
use fleetward_core::endpoints::EndpointerBuilder;
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::retry::{RatioBudget, RetryBudget};
use fleetward_core::{Balanced, Balancer, Factory, Instancer};

use crate::ReplayBuffer;

/// What a client's builder sets, whatever its protocol. The builders say what each is for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// Which endpoint a call goes to. Default: [`PeakEwma`].
    pub balancer: Option<Arc<dyn Balancer>>,
    /// How the set of endpoints is kept.
    pub endpointer: EndpointerBuilder,
    /// Whether instances are left out that fail more than the others. Default: what the endpointer says.
    pub outlier_detection: Option<OutlierDetection>,
    /// What a call does that finds no endpoint ready. Default: wait 3 s at most.
    pub wait_for_ready: WaitForReady,
    /// The deadline of a call that brings none. Default: none.
    pub timeout: Option<Duration>,
    /// What bounds the further attempts of all calls together. Default: [`RatioBudget`].
    pub retry_budget: Arc<dyn RetryBudget>,
    /// How many bytes of a request are kept for another attempt. Default: 1 MiB.
    pub replay_limit: usize,
    /// What all calls together keep for other attempts. Default: 16 MiB.
    pub replay_buffer: Arc<ReplayBuffer>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            balancer: None,
            endpointer: EndpointerBuilder::default(),
            outlier_detection: None,
            wait_for_ready: WaitForReady::default(),
            timeout: None,
            retry_budget: Arc::new(RatioBudget::default()),
            replay_limit: 1 << 20,
            replay_buffer: Arc::new(ReplayBuffer::new(16 << 20)),
        }
    }
}

impl ClientSettings {
    /// Follows the instances of `target`, makes a service of each by `factory`, and balances calls over them.
    /// `protocol` has what the protocol adds: its observer, and how it looks into a request.
    ///
    /// Returns at once. Outside of a tokio runtime nothing can be followed: then every call ends with an error that
    /// says so.
    pub fn balanced<S, O>(
        &self,
        target: impl Instancer,
        factory: impl Factory<S>,
        protocol: BalancedBuilder<O>,
    ) -> Balanced<S, O>
    where
        S: Clone + Send + Sync + 'static,
    {
        let endpointer = self.endpointer.clone();
        let endpointer = match &self.outlier_detection {
            Some(detection) => endpointer.outlier_detection(detection.clone()),
            None => endpointer,
        };
        let balancer = self.balancer.clone().unwrap_or_else(|| Arc::new(PeakEwma::new()));
        let balanced = protocol.build(endpointer.build(target, factory), balancer);
        balanced.wait_for_ready(self.wait_for_ready)
    }
}
