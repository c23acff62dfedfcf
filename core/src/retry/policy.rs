//! What is tried again.

use std::fmt;
use std::time::Duration;

use crate::BoxError;

/// What happens after a failed attempt. A response is always returned: a protocol whose failures
/// are responses makes errors of them below the retry.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Fail with this error.
    Return,
    /// Fail with another error than the attempt's.
    ReturnError(BoxError),
    /// Try again after the backoff.
    Retry,
    /// Try again after exactly this long, as the server asked for.
    RetryAfter(Duration),
    /// Nothing left this process: try again at once, without counting the attempt.
    Transparent,
}

/// Decides after each attempt. Shared by all calls, so `&self`.
pub trait RetryClassifier<Req>: Send + Sync {
    /// A copy of the request for another attempt; `None` if it cannot be sent twice.
    fn copy(&self, request: &Req) -> Option<Req>;

    /// Looks at the error of attempt number `attempt`, from 1.
    fn judge(&self, attempt: u32, error: &BoxError) -> Verdict;
}

/// What a callback says to a failed attempt.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeepTrying {
    /// Try again.
    Yes,
    /// Stop: the attempt's error is the final one.
    No,
    /// Stop with another final error; the attempt's stays in
    /// [`RetryError::attempts`](crate::RetryError::attempts).
    NoWith(BoxError),
}

/// Retries what fails while the callback says so. For requests that can be cloned.
#[derive(Clone)]
pub struct CallbackPolicy<C>(pub(super) C);

impl<Req, C> RetryClassifier<Req> for CallbackPolicy<C>
where
    Req: Clone,
    C: Fn(u32, &BoxError) -> KeepTrying + Send + Sync,
{
    fn copy(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }

    fn judge(&self, attempt: u32, error: &BoxError) -> Verdict {
        match (self.0)(attempt, error) {
            KeepTrying::Yes => Verdict::Retry,
            KeepTrying::No => Verdict::Return,
            KeepTrying::NoWith(error) => Verdict::ReturnError(error),
        }
    }
}

impl<C> fmt::Debug for CallbackPolicy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackPolicy").finish_non_exhaustive()
    }
}
