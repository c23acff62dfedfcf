//! What is found about an endpoint by what it refuses.

use crate::endpoints::endpoint::doubt::Heard;

/// What a refusal comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::endpoints::endpoint) struct Refusal {
    /// As heard by the endpoint in whose place the call came here.
    pub(in crate::endpoints::endpoint) heard: Heard,
    pub(in crate::endpoints::endpoint) blame: Blame,
}

/// Whose fault a refusal is, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::endpoints::endpoint) enum Blame {
    /// The caller's, for all that is known.
    Caller,
    /// Perhaps the endpoint's, for this operation.
    Operation,
    /// The endpoint's, whatever it is asked.
    Endpoint,
}

/// Something to tell the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It refuses what others do.
    Refuses,
    /// It no longer does.
    Answers,
}
