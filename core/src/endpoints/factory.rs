//! From an instance to something that can be called.

use std::sync::Arc;

use async_trait::async_trait;

use crate::endpoints::Readiness;
use crate::{BoxError, Error, ErrorKind, Instance};

/// Makes one service for one instance. Any closure from `Arc<Instance>` to a future is one.
///
/// The [`Endpointer`](crate::Endpointer) runs it off the path of calls, several at a time, with a
/// deadline, and again with backoff when it fails. When the instance is removed, the service is
/// dropped as soon as the calls under way are done.
///
/// ```
/// use std::sync::Arc;
/// use fleetward_core::{DefaultEndpointer, Instance};
/// use fleetward_core::discovery::FixedInstancer;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// let endpointer = DefaultEndpointer::new(list, |instance: Arc<Instance>| async move {
///     Ok::<_, fleetward_core::Error>(format!("a client of {}", instance.address()))
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make `{S}` from an instance",
    note = "a factory is a closure `|instance: Arc<Instance>| async move {{ Ok::<_, E>(service) }}`, or a type that implements `Factory`"
)]
pub trait Factory<S>: Send + Sync + 'static {
    /// Makes the service. It counts as ready when this returns, unless it was told otherwise
    /// through `readiness` before.
    ///
    /// # Errors
    /// Tried again with backoff; the other instances are not affected.
    async fn make(&self, instance: &Arc<Instance>, readiness: Readiness) -> Result<S, Error>;
}

#[async_trait]
impl<S, F, Fut, E> Factory<S> for F
where
    F: Fn(Arc<Instance>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, E>> + Send,
    E: Into<BoxError>,
{
    async fn make(&self, instance: &Arc<Instance>, _: Readiness) -> Result<S, Error> {
        self(instance.clone()).await.map_err(|error| into_error(error.into()))
    }
}

/// Keeps an [`Error`] as it is and wraps any other.
pub(crate) fn into_error(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::new(ErrorKind::Other, other.to_string()).with_source(other),
    }
}
