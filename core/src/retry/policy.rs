//! What is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{BoxError, Error};

/// What happens after a failed attempt. A response is always returned: a protocol whose failures
/// are responses makes errors of them below the retry.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Fail with this error: trying again would not help, or the call is committed, for an answer
    /// has begun. It ends every other attempt of a hedged call.
    Return,
    /// Fail with another error than the attempt's, which stays in
    /// [`RetryError::attempts`](crate::retry::RetryError::attempts).
    ReturnError(BoxError),
    /// Try again after the backoff.
    Retry,
    /// Try again after exactly this long, as the server asked for.
    RetryAfter(Duration),
    /// Nothing left this process: try again without counting the attempt.
    ///
    /// At once, for as long as there is an instance that the call has not tried. Once it has tried all
    /// that the balancer takes, it waits for a change of the set, and tries again after pauses that grow
    /// from 2 ms to 1 s; not at all under [`FailFast`](crate::balancing::WaitForReady::FailFast), and all in all no longer than
    /// [`AtMost`](crate::balancing::WaitForReady::AtMost) says. Then the call fails with the last attempt's error. The
    /// attempt counts as [`Retry`](Self::Retry) after 1,000 such attempts of one call; after 5 where no
    /// [`Balanced`](crate::Balanced) under the layer says where they went; and where every instance is
    /// [full](crate::limit::ConcurrencyLimit), for waiting is what its queue is for.
    Transparent,
    /// It could be tried again, but the server asks for it not to be. Fails with this error, and
    /// counts against the budget.
    Stop,
    /// Another attempt that is under way has taken its place: the call goes on with that one, and with
    /// no other.
    Discard,
}

impl Verdict {
    /// Whether an error says that the request never left this process, as that of a full
    /// [`ConcurrencyLimit`](crate::limit::ConcurrencyLimit) does, and that of an attempt whose time was up before it was
    /// sent ([`Error::is_unsent`]).
    pub fn is_unsent(error: &BoxError) -> bool {
        error.downcast_ref::<Error>().is_some_and(Error::is_unsent)
    }
}

/// Decides after each attempt. Shared by all calls, so `&self`.
pub trait RetryClassifier<Req>: Send + Sync {
    /// A copy of the request for another attempt; `None` if it cannot be sent twice.
    fn copy(&self, request: &Req) -> Option<Req>;

    /// Looks at an error, after `attempt` attempts.
    fn judge(&self, attempt: u32, error: &BoxError) -> Verdict;
}

#[deny(clippy::missing_trait_methods)]
impl<Req, P: RetryClassifier<Req> + ?Sized> RetryClassifier<Req> for Arc<P> {
    fn copy(&self, request: &Req) -> Option<Req> {
        (**self).copy(request)
    }

    fn judge(&self, attempt: u32, error: &BoxError) -> Verdict {
        (**self).judge(attempt, error)
    }
}

/// A plain function pointer, so that `Retry::new` has a type that can be named.
pub(super) type Always = fn(u32, &BoxError) -> Verdict;

/// Does what the callback says after each failure, and does not ask it about what never left this
/// process: that is [tried again](Verdict::Transparent). For requests that can be cloned.
#[derive(Clone)]
pub struct CallbackPolicy<C>(pub(super) C);

impl<Req, C> RetryClassifier<Req> for CallbackPolicy<C>
where
    Req: Clone,
    C: Fn(u32, &BoxError) -> Verdict + Send + Sync,
{
    fn copy(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }

    fn judge(&self, attempt: u32, error: &BoxError) -> Verdict {
        if Verdict::is_unsent(error) {
            return Verdict::Transparent;
        }
        (self.0)(attempt, error)
    }
}

impl<C> fmt::Debug for CallbackPolicy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackPolicy").finish_non_exhaustive()
    }
}
