//! What happened to every call of a run.

use crate::Nanos;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With an answer.
    Good,
    /// With an error from the server.
    Failed,
    /// With an error from the server that may be the caller's fault.
    Refused,
    /// The client lost patience.
    GivenUp,
    /// It was under way still when the run ended.
    Open,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// When it began.
    pub start: Nanos,
    /// How long it took, up to its end or the run's.
    pub took: Nanos,
    /// Which client called.
    pub client: u32,
    /// Which server was picked.
    pub server: u32,
    /// How many calls that server had, this one included, when it came.
    pub in_line: u32,
    /// How it ended.
    pub answer: Answer,
}

/// All calls of a run, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The calls that found an endpoint.
    pub calls: Vec<Call>,
    /// How many found none.
    pub refused: u64,
    /// How many probes were sent.
    pub probes: u64,
    /// How many servers there are.
    pub servers: usize,
    /// How often outlier detection took a server out of some client's set.
    pub ejections: usize,
}

impl Trace {
    /// The calls that began within `from..to`.
    pub fn between(&self, from: Nanos, to: Nanos) -> &[Call] {
        let start = self.calls.partition_point(|call| call.start < from);
        let end = self.calls.partition_point(|call| call.start < to);
        &self.calls[start..end.max(start)]
    }
}
