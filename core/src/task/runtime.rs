//! The runtime that tasks are spawned on.

use tokio::runtime::Handle;

use crate::{Error, ErrorKind};

/// The runtime to spawn on; an error instead of tokio's panic.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) outside a tokio runtime.
#[doc(hidden)]
pub fn current_runtime(operation: &'static str) -> Result<Handle, Error> {
    Handle::try_current().map_err(|error| {
        Error::new(ErrorKind::Unsupported, "call this inside a tokio runtime")
            .with_operation(operation)
            .with_source(error)
    })
}
