//! The deadline of a call, handed on to the calls that it makes in turn.

use tokio::time::Instant;
use tonic::{Request, Status};

use crate::deadline;

/// When a server took a request in. Stands in the request's extensions.
#[derive(Clone, Copy, Debug)]
struct Arrived(Instant);

/// Gives `outgoing` what is left of the deadline of `incoming`, the request that it is made for; a
/// shorter one of its own stays.
///
/// So nobody works on for a caller that has given up, however long the chain of services. What is left
/// counts from when the server took `incoming` in if [`stamp_arrival`] was there, else from now on.
/// Without a deadline in `incoming`, `outgoing` stays as it is.
///
/// ```
/// use std::time::Duration;
/// use fleetward_grpc::propagate_deadline;
/// # async fn handler(incoming: tonic::Request<String>) {
/// let mut outgoing = tonic::Request::new("a question of our own".to_owned());
/// propagate_deadline(&incoming, &mut outgoing);
/// # }
/// ```
pub fn propagate_deadline<T, U>(incoming: &Request<T>, outgoing: &mut Request<U>) {
    let Some(timeout) = deadline::timeout(incoming.metadata().as_ref()) else { return };
    let waited = incoming.extensions().get::<Arrived>().map(|arrived| arrived.0.elapsed());
    let left = timeout.saturating_sub(waited.unwrap_or_default());
    if deadline::timeout(outgoing.metadata().as_ref()).is_none_or(|own| left < own) {
        outgoing.set_timeout(left);
    }
}

/// A tonic interceptor that notes when a request arrived, for [`propagate_deadline`]:
/// `GreeterServer::with_interceptor(greeter, stamp_arrival)`.
///
/// # Errors
/// Never.
pub fn stamp_arrival(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.extensions_mut().insert(Arrived(Instant::now()));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeout(request: &Request<()>) -> Option<Duration> {
        deadline::timeout(request.metadata().as_ref())
    }

    fn with_timeout(millis: u64) -> Request<()> {
        let mut request = Request::new(());
        request.set_timeout(Duration::from_millis(millis));
        request
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_handed_on() {
        let incoming = stamp_arrival(with_timeout(500)).unwrap();
        tokio::time::advance(Duration::from_millis(200)).await;
        let mut outgoing = Request::new(());
        propagate_deadline(&incoming, &mut outgoing);
        assert_eq!(timeout(&outgoing), Some(Duration::from_millis(300)));
        tokio::time::advance(Duration::from_secs(1)).await;
        propagate_deadline(&incoming, &mut outgoing);
        assert_eq!(timeout(&outgoing), Some(Duration::ZERO), "it has passed");
    }

    #[tokio::test(start_paused = true)]
    async fn the_shorter_deadline_stays_and_none_makes_none() {
        let incoming = with_timeout(500);
        for (own, expected) in [(100, 100), (900, 500)] {
            let mut outgoing = with_timeout(own);
            propagate_deadline(&incoming, &mut outgoing);
            assert_eq!(timeout(&outgoing), Some(Duration::from_millis(expected)));
        }
        let mut outgoing = Request::new(());
        propagate_deadline(&Request::new(()), &mut outgoing);
        assert_eq!(timeout(&outgoing), None);
    }
}
