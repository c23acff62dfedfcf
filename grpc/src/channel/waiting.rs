//! Whether a call at an endpoint still waits, so that nothing of it has left.

use std::any::Any;

use fleetward_core::limit::LimitedFuture;
use tonic::body::Body;

use crate::Connection;
use crate::connection::ResponseFuture;

/// Whether a call waits for its turn or for a stream. Of a service other than a [`Connection`], alone or behind a limit,
/// it is not known.
pub(super) fn is_waiting<F: 'static>(future: &F) -> bool {
    type Limited = LimitedFuture<Connection, http::Request<Body>>;
    let future: &dyn Any = future;
    if let Some(limited) = future.downcast_ref::<Limited>() {
        return limited.is_waiting() || limited.called().is_some_and(ResponseFuture::is_waiting);
    }
    future.downcast_ref().is_some_and(ResponseFuture::is_waiting)
}
