//! Peers in Go, in their own process.

use super::ours::ROUND_ROBIN;
use super::subject::{Change, Sample, Subject};
use crate::error::Result;
use crate::go::Go;

pub(crate) const GO_KIT: &str = "go-kit DefaultEndpointer";
const GRPC_GO: &str = "grpc-go round_robin";

pub(crate) struct OfGo {
    go: Go,
    name: &'static str,
    id: &'static str,
    size: u32,
}

impl OfGo {
    /// All that bear so many.
    pub(crate) fn all(go: &Go, size: u32) -> impl Iterator<Item = Self> {
        // grpc-go: as where picks are measured, more take a minute to come up.
        let all = [(GO_KIT, "gokit_round_robin", u32::MAX), (GRPC_GO, "grpc_round_robin", 1_000)];
        let bearing = all.into_iter().filter(move |(_, _, max)| size <= *max);
        bearing.map(move |(name, id, _)| Self { go: go.clone(), name, id, size })
    }
}

impl Subject for OfGo {
    fn name(&self) -> &'static str {
        self.name
    }

    fn beside(&self) -> Option<&'static str> {
        Some(ROUND_ROBIN)
    }

    fn change(&mut self, change: Change, _: u32) -> Result<Option<Sample>> {
        // Neither of the two knows of weights here.
        if change == Change::Reweighted {
            return Ok(None);
        }
        let [visible, cpu, bytes] = self.go.change(self.id, self.size, change.name())?;
        let nanos = std::time::Duration::from_nanos;
        Ok(Some(Sample { visible: nanos(visible), cpu: nanos(cpu), bytes }))
    }
}
