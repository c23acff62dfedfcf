//! A backend that only reads, in the shape that the suite takes.

use std::time::Duration;

use fleetward_core::discovery::{Change, Listing, Source};
use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, ErrorKind, Instance, ServiceName};
use futures::Stream;

/// A [`Source`] with a [`Registry`] that refuses everything: for
/// [`Subject::Backend`](super::Subject::Backend) without
/// [`Capability::Register`](super::Capability::Register).
#[derive(Clone, Copy, Debug)]
pub struct ReadOnly<S>(pub S);

impl<S: Source> Source for ReadOnly<S> {
    type Cursor = S::Cursor;

    async fn list(&self, service: &ServiceName) -> Result<Listing<S::Cursor>, Error> {
        self.0.list(service).await
    }

    fn watch(
        &self,
        service: &ServiceName,
        from: S::Cursor,
    ) -> impl Stream<Item = Result<Change<S::Cursor>, Error>> + Send {
        self.0.watch(service, from)
    }

    fn describe(&self, service: &ServiceName) -> String {
        self.0.describe(service)
    }
}

impl<S: Source> Registry for ReadOnly<S> {
    type Lease = ();

    async fn register(
        &self,
        _: &ServiceName,
        _: &Instance,
        _: Duration,
    ) -> Result<Leased<()>, Error> {
        Err(unsupported())
    }

    async fn keep_alive(&self, (): &mut ()) -> Result<KeptAlive, Error> {
        Err(unsupported())
    }

    async fn deregister(&self, (): ()) -> Result<(), Error> {
        Err(unsupported())
    }
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "this backend only reads")
}
