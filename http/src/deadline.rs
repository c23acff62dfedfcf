//! The one deadline of a call: everything up to the end of the response's body.

use std::time::Duration;

use fleetward_client::Deadline;
use http::Extensions;

/// The deadline of one call, put into its request's extensions: it takes the place of
/// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout).
///
/// ```
/// use std::time::Duration;
/// use fleetward_http::Timeout;
/// let request = http::Request::get("/users/7")
///     .extension(Timeout(Duration::from_millis(250)))
///     .body(String::new())?;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

/// The deadline of a call that begins now: its own, or else the default.
pub(crate) fn of(extensions: &Extensions, default: Option<Duration>) -> Option<Deadline> {
    Deadline::after(extensions.get().map(|Timeout(own)| *own).or(default)?)
}
