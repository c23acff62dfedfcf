//! One request, but for the agent that it goes to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::ServiceName;
use http::Method;
use tokio::time::Instant;

use super::agent::Agent;
use super::answer::{Answer, Shape};
use super::lane::Lane;
use super::wire::Wire;

pub(crate) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Bytes,
    pub(super) shape: Shape,
    /// The service that is asked about: such calls have a pace, and places that are shared.
    pub(super) service: Option<ServiceName>,
}

impl Call {
    /// Reads what an agent knows of a registration.
    pub(crate) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Bytes::new(), shape: Shape::Json, service: None }
    }

    /// The same, where Consul says how well a service is by the status, too.
    pub(crate) fn get_health(path: String) -> Self {
        Self { shape: Shape::JsonAlways, ..Self::get(path) }
    }

    /// Asks about a service.
    pub(crate) fn query(service: &ServiceName, path: String) -> Self {
        Self { service: Some(service.clone()), ..Self::get(path) }
    }

    /// Writes.
    pub(crate) fn put(path: String, body: Vec<u8>) -> Self {
        Self { method: Method::PUT, body: body.into(), shape: Shape::Nothing, ..Self::get(path) }
    }

    pub(super) fn knock() -> Self {
        Self { shape: Shape::Anything, ..Self::get("/".to_owned()) }
    }

    pub(super) fn lane<'a>(&self, agent: &'a Agent) -> &'a Arc<Lane<Wire>> {
        if self.service.is_some() { &agent.queries } else { &agent.kept }
    }
}

/// What came of a query that Consul may hold back.
#[derive(Debug)]
pub(crate) enum Held {
    Answer(Answer),
    /// Something on the way ended it. Nothing is wrong if the agent answers now.
    Cut(Cut),
    /// The agent failed. Nothing is wrong if another one answers now.
    Left,
}

/// A query that was ended by something else than Consul.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(super) agent: usize,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
}

impl Cut {
    /// How long it had been held back.
    pub(crate) fn age(&self) -> Duration {
        self.ended - self.begun
    }
}
