//! By which way a call came.

/// How a call came to an endpoint.
#[derive(Debug, Default)]
pub(crate) enum Way<E> {
    /// By the balancer's choice.
    #[default]
    Straight,
    /// Although the endpoint is doubted: there is no better one.
    Forced,
    /// In place of an endpoint that is doubted.
    Instead(E),
}
