//! Why an instance's client could not answer, and whether the request has left.

use std::error::Error;
use std::fmt;

use fleetward_core::{BoxError, InstanceId};

use crate::request_body::CallerError;

/// A call that an [`Origin`](crate::Origin) could not carry through. Its source is the client's own error.
pub struct OriginError {
    instance: InstanceId,
    /// Whether it came before the request was handed over.
    early: bool,
    source: BoxError,
}

impl OriginError {
    /// Of a client that did not become ready for the request.
    pub(super) fn early(instance: &InstanceId, source: BoxError) -> Self {
        Self { instance: instance.clone(), early: true, source }
    }

    /// Of a client that had the request.
    pub(super) fn late(instance: &InstanceId, source: BoxError) -> Self {
        Self { instance: instance.clone(), early: false, source }
    }

    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Whether the request certainly never left: the client was not ready for it, or no connection could
    /// be made.
    ///
    /// The latter is known of hyper-util's client, and of what is built on it and keeps its error as a source
    /// (reqwest). Any other client says so by an [`io::Error`](std::io::Error) of kind `ConnectionRefused`
    /// among the sources.
    pub fn is_unsent(&self) -> bool {
        self.early || (!self.is_caller() && causes(&*self.source).any(is_connect))
    }

    /// Whether it was the caller's own body that failed.
    pub(crate) fn is_caller(&self) -> bool {
        causes(&*self.source).any(<dyn Error>::is::<CallerError>)
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}: {}", self.instance, chain(&*self.source))
    }
}

impl fmt::Debug for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginError")
            .field("instance", &self.instance)
            .field("source", &self.source)
            .finish()
    }
}

impl Error for OriginError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

fn is_connect(cause: &(dyn Error + 'static)) -> bool {
    let legacy = cause.downcast_ref::<hyper_util::client::legacy::Error>();
    let io = cause.downcast_ref::<std::io::Error>();
    legacy.is_some_and(hyper_util::client::legacy::Error::is_connect)
        || io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error and its causes in one line: hyper's own text ("client error (Connect)") says little.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let next = cause.to_string();
        if text.is_empty() {
            text = next;
        } else if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
    }
    text
}
