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

    /// The error with the instance that it came from, which some name themselves.
    fn in_words(&self) -> String {
        let error = self.error.to_string();
        match &self.instance {
            Some(instance) => {
                let prefix = format!("instance {instance}: ");
                if error.starts_with(&prefix) { error } else { prefix + &error }
            }
            None => error,
        }
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

    /// What the call was doing when its deadline passed, in words for a message. `no_endpoints` says why
    /// there is no endpoint ([`EndpointSet::no_endpoints`](crate::endpoints::EndpointSet::no_endpoints)).
    pub fn cut_off(&self, no_endpoints: impl FnOnce() -> Error) -> String {
        match self.attempts.last().map(|last| &last.instance) {
            Some(Some(instance)) => format!("instance {instance} had not answered"),
            Some(None) => match no_endpoints() {
                none if self.attempts.len() > 1 && none.context("ready") != Some("0") => {
                    "every instance was tried, and none took the request".to_owned()
                }
                none => none.to_string(),
            },
            None => "nothing was sent".to_owned(),
        }
    }

    /// The last attempt's error with its instance, in words for a message; the final error if there was no
    /// attempt.
    pub fn last(&self) -> String {
        self.attempts.last().map_or_else(|| self.cause.to_string(), Attempt::in_words)
    }

    /// The attempts before the last one, in parentheses behind a message; nothing if there were none.
    pub fn before(&self) -> String {
        const SHOWN: usize = 4;
        let Some((_, before)) = self.attempts.split_last().filter(|(_, b)| !b.is_empty()) else {
            return String::new();
        };
        let shown: Vec<_> = before.iter().take(SHOWN).map(Attempt::in_words).collect();
        let more = if before.len() > SHOWN { "; …" } else { "" };
        format!(" ({} attempts; before: {}{more})", self.attempts.len(), shown.join("; "))
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
