//! How a call's end is told from its response.

use crate::endpoints::{InFlight, Outcome};
use crate::{BoxError, Error};

/// Judges how calls went, and knows when they are over.
///
/// A response may be a failure (gRPC, HTTP), and may go on long after its head (a stream), so
/// [`Balanced`](crate::Balanced) gives each response to an observer together with the guard of its
/// call. The guard is finished at once, or travels inside the response to its end:
///
/// ```
/// use fleetward_core::BoxError;
/// use fleetward_core::endpoints::{InFlight, Observer, Outcome};
///
/// /// Of a service whose every response holds a status.
/// #[derive(Clone, Debug)]
/// struct ByStatus;
///
/// impl Observer<u16> for ByStatus {
///     type Observed = u16;
///
///     fn response(&self, status: u16, call: InFlight) -> u16 {
///         call.finish(match status {
///             ..400 => Outcome::Success,
///             // The caller's fault, or the instance's.
///             400..500 => Outcome::Refused,
///             500.. => Outcome::FAILURE,
///         });
///         status
///     }
/// }
/// ```
pub trait Observer<Response>: Send + Sync {
    /// What the caller gets: the response as it came, or one that takes the call to its end.
    type Observed;

    /// A response has come. What is returned goes to the caller.
    fn response(&self, response: Response, call: InFlight) -> Self::Observed;

    /// The call ended in an error: a failure, unless nothing was sent to the instance
    /// ([`Error::is_unsent`]), or this says otherwise.
    fn error(&self, error: &BoxError) -> Outcome {
        match error.downcast_ref::<Error>() {
            Some(error) if error.is_unsent() => Outcome::Ignored,
            _ => Outcome::FAILURE,
        }
    }
}

/// `Ok` is a success, `Err` a failure, and a call is over when its response is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<Response> Observer<Response> for ByResult {
    type Observed = Response;

    fn response(&self, response: Response, call: InFlight) -> Response {
        call.finish(Outcome::Success);
        response
    }
}
