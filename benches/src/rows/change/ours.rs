//! Ours: from the registry's word through the reflector and the endpointer to whoever waits for it.

use std::time::{Duration, Instant};

use fleetward_balancers::{RoundRobin, WeightedRoundRobin};
use fleetward_core::Balancer;
use fleetward_core::endpoints::EndpointSet;
use tokio::runtime::{Builder, Runtime};

use super::subject::{Change, Sample, Subject, measured};
use crate::error::Result;
use crate::scripted::{Nobody, ScriptedClient};

pub(crate) const ROUND_ROBIN: &str = "fleetward, round robin";
pub(crate) const WEIGHTED: &str = "fleetward, weighted round robin";

/// A client, and the thread that all of it runs on.
pub(crate) struct Ours {
    name: &'static str,
    client: ScriptedClient,
    size: u32,
    runtime: Runtime,
}

impl Ours {
    pub(crate) fn all(size: u32) -> Result<[Self; 2]> {
        Ok([
            Self::new(ROUND_ROBIN, size, RoundRobin::new())?,
            Self::new(WEIGHTED, size, WeightedRoundRobin::new())?,
        ])
    }

    fn new(name: &'static str, size: u32, balancer: impl Balancer + 'static) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(ScriptedClient::new(size, balancer))?;
        Ok(Self { name, client, size, runtime })
    }
}

impl Subject for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn change(&mut self, change: Change, round: u32) -> Result<Option<Sample>> {
        let (middle, count, weight) = (self.size / 2, self.size as usize, 2 + round);
        let seen = |set: &EndpointSet<Nobody>| match change {
            Change::Reweighted => set.ready()[middle as usize].instance().weight() == weight,
            Change::Removed => set.ready().len() == count - 1,
            Change::Added => set.ready().len() == count,
        };
        // Longer than snapshots are kept apart, and than a large set makes the next one wait.
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(150)).await });
        measured(|| {
            self.runtime.block_on(async {
                let begun = Instant::now();
                match change {
                    Change::Removed => self.client.delete(middle)?,
                    Change::Reweighted | Change::Added => self.client.put(middle, weight)?,
                }
                self.client.balanced.endpoints().wait_for(&seen).await;
                Ok(begun.elapsed())
            })
        })
    }
}
