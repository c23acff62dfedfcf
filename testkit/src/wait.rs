//! Waiting for a condition instead of sleeping.
//!
//! A fixed sleep is either too short on a busy machine or too long on every other one. Polling with
//! a deadline is neither: the test goes on the moment that the condition holds, and the deadline
//! may be generous, for only a failing test pays it.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{sleep, timeout_at};

/// Polls `condition` until it is true (or `Some`), and returns what it found.
///
/// The clock is tokio's: under a paused clock the deadline is virtual time and costs nothing.
///
/// # Panics
///
/// At the deadline, with `what` and the caller's place. A condition that hangs is cut off there too.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
/// use fleetward_testkit::eventually;
///
/// let found = eventually("an answer", Duration::from_secs(1), || async { Some(42) }).await;
/// assert_eq!(found, 42);
/// # }
/// ```
// Not an `async fn`: those cannot be `track_caller`, and the place in this file helps nobody.
#[track_caller]
pub fn eventually<C, F>(
    what: &str,
    deadline: Duration,
    mut condition: C,
) -> impl Future<Output = <F::Output as Outcome>::Value>
where
    C: FnMut() -> F,
    F: Future<Output: Outcome>,
{
    let caller = Location::caller();
    async move {
        let end = tokio::time::Instant::now() + deadline;
        let mut polls = 0_u32;
        loop {
            let poll = async {
                let value = condition().await.value();
                if value.is_none() {
                    sleep(PAUSE).await;
                }
                value
            };
            match timeout_at(end, poll).await {
                Ok(Some(value)) => return value,
                Ok(None) => polls += 1,
                Err(_) => panic!(
                    "not within {deadline:?}: {what} ({polls} polls were in vain, waited for at {caller})"
                ),
            }
        }
    }
}

/// What a condition of [`eventually`] may return: a `bool`, or an `Option` with the value found.
pub trait Outcome {
    /// What [`eventually`] returns.
    type Value;

    /// The value, or `None` if the condition does not hold yet.
    fn value(self) -> Option<Self::Value>;
}

impl Outcome for bool {
    type Value = ();

    fn value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn value(self) -> Option<T> {
        self
    }
}

/// Short enough to add nothing that a test would notice, long enough not to be a busy loop.
const PAUSE: Duration = Duration::from_millis(10);
