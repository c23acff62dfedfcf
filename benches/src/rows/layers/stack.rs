//! What is measured here, by name.

/// A stack of layers: makes so many calls, and says how many succeeded.
pub(crate) struct Stack<'a> {
    pub(crate) name: &'static str,
    pub(crate) beside: Option<&'static str>,
    pub(crate) calls: Box<dyn Fn(u64) -> u64 + 'a>,
}

pub(super) const BALANCED: &str = "Balanced, round_robin";
pub(super) const EWMA: &str = "Balanced, peak_ewma";
pub(super) const RETRY: &str = "Balanced + Retry";
pub(super) const DEADLINE: &str = "Balanced + Retry + deadline";
pub(super) const GO_KIT: &str = "go-kit Retry + RoundRobin";
pub(super) const EVERYTHING: &str = "everything";
