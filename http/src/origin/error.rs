//! Why an instance's client could not answer.

use std::error::Error;
use std::fmt;

use fleetward_core::{BoxError, InstanceId};

use super::chain::{causes, chain};
use super::sent::WasSent;

/// A call that an [`Origin`](crate::Origin) could not carry through. Its source is the client's own error.
pub struct OriginError {
    instance: InstanceId,
    sent: WasSent,
    source: BoxError,
}

impl OriginError {
    pub(super) fn new(instance: &InstanceId, sent: WasSent, source: BoxError) -> Self {
        Self { instance: instance.clone(), sent, source }
    }

    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Whether the request certainly never left: the client was not ready for it, no connection could be
    /// made, the connection was gone before the request was written, or a
    /// [`ConcurrencyLimit`](fleetward_core::limit::ConcurrencyLimit) turned it away.
    ///
    /// A [`Pool`](crate::Pool)'s own client knows. Of any other nothing is inferred from its errors, unless it
    /// is said to send [without redirects](crate::Origin::without_redirects).
    pub fn is_unsent(&self) -> bool {
        matches!(self.sent, WasSent::TurnedAway | WasSent::Unsent)
    }

    /// Whether the server certainly did not act on the request, so that it is safe to send it again whatever
    /// its method: it [never left](Self::is_unsent), or the server said by HTTP/2's REFUSED_STREAM or GOAWAY
    /// that it did not look at it.
    pub fn is_unprocessed(&self) -> bool {
        self.is_unsent() || matches!(self.sent, WasSent::GoneAway | WasSent::Refused)
    }

    /// Whether a limit turned it away.
    pub(crate) fn is_turned_away(&self) -> bool {
        self.sent == WasSent::TurnedAway
    }

    /// Whether the instance was given all the time that a connection may take, in vain.
    pub(crate) fn is_silence(&self) -> bool {
        self.sent == WasSent::Unsent && causes(&*self.source).any(is_timeout)
    }

    /// Whether it was the caller's own body that failed.
    pub(crate) fn is_caller(&self) -> bool {
        self.sent == WasSent::Caller
    }

    /// Whether it says something about the instance.
    pub(crate) fn is_failure(&self) -> bool {
        match self.sent {
            WasSent::Unsent | WasSent::Refused | WasSent::Unknown => true,
            // One that closes its connections in good order is no failure: it finishes what it took.
            WasSent::Caller | WasSent::TurnedAway | WasSent::GoneAway | WasSent::AnyLeg => false,
        }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = chain(&*self.source);
        let hint = wrong_protocol(&*self.source, &chain);
        write!(f, "instance {}: {chain}{hint}", self.instance)
    }
}

impl fmt::Debug for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginError")
            .field("instance", &self.instance)
            .field("sent", &self.sent)
            .field("source", &self.source)
            .finish()
    }
}

impl Error for OriginError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

fn is_timeout(cause: &(dyn Error + 'static)) -> bool {
    let own = cause.downcast_ref::<fleetward_core::Error>();
    let io = cause.downcast_ref::<std::io::Error>();
    own.is_some_and(fleetward_core::Error::is_timeout)
        || io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// What to do about a failure that comes of the wrong protocol.
fn wrong_protocol(error: &(dyn Error + 'static), chain: &str) -> &'static str {
    let parse = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
    };
    if causes(error).any(parse) {
        return "; the server does not speak HTTP/1: is it a port for TLS (https), or one for HTTP/2 only (`with_http2_only`)?";
    }
    // hyper tells this one by its text alone.
    if chain.contains("received unexpected message from connection") {
        return "; the server speaks first, as one for HTTP/2 only does (`with_http2_only`)";
    }
    // The connector is the user's: rustls is known by its text alone.
    if chain.contains("corrupt message of type InvalidContentType") {
        return "; the server does not speak TLS: is it a port for plain http?";
    }
    ""
}
