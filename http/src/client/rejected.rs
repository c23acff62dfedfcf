//! The error of an attempt whose response is to be tried again.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// A response that is to be tried again. The call keeps it, to return it if no attempt is left.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) status: StatusCode,
    /// What its `Retry-After` asks for.
    pub(super) wait: Option<Duration>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        match self.wait {
            Some(wait) => write!(f, ", retry after {} s", wait.as_secs()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}
