//! The error of a call that was tried several times.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, InstanceId};

/// One attempt that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Where it went; `None` if no endpoint was found, or the service under the retry does not
    /// say.
    pub instance: Option<InstanceId>,
    /// What went wrong.
    pub error: Arc<dyn std::error::Error + Send + Sync>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Attempt {
    pub(super) fn new(
        instance: Option<InstanceId>,
        error: Arc<dyn std::error::Error + Send + Sync>,
        elapsed: Duration,
    ) -> Self {
        Self { instance, error, elapsed }
    }
}

/// Every attempt's error, and the one that counts in the end (go-kit's `RetryError`).
///
/// `Display` is one line: the final error, how many attempts there were and where each went. The
/// final error is the [`source`](std::error::Error::source).
#[derive(Clone, Debug)]
pub struct RetryError {
    attempts: Vec<Attempt>,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl RetryError {
    pub(super) fn new(
        attempts: Vec<Attempt>,
        cause: Arc<dyn std::error::Error + Send + Sync>,
    ) -> Self {
        Self { attempts, cause }
    }

    /// The attempts that failed, oldest first; their errors are never replaced.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The error that counts: the last attempt's, the callback's replacement, or the deadline.
    pub fn final_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.cause
    }

    /// Whether a deadline ended the call: the overall one, or that of the last attempt.
    pub fn is_timeout(&self) -> bool {
        self.cause.downcast_ref::<Error>().is_some_and(Error::is_timeout)
    }
}

impl fmt::Display for RetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.attempts.len();
        write!(f, "{} (after {n} failed attempt{}", self.cause, if n == 1 { "" } else { "s" })?;
        for (i, attempt) in self.attempts.iter().enumerate() {
            f.write_str(if i == 0 { ": " } else { "; " })?;
            match &attempt.instance {
                Some(instance) => write!(f, "{instance}: {}", attempt.error)?,
                None => write!(f, "{}", attempt.error)?,
            }
            if i == 4 && n > 5 {
                write!(f, "; and {} more", n - 5)?;
                break;
            }
        }
        f.write_str(")")
    }
}

impl std::error::Error for RetryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}
