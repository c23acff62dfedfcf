//! The one deadline of a call: read from `grpc-timeout`, written for each attempt, and kept up to
//! the end of the response's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::InstanceId;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When a call must have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    /// As the caller gave it, for messages.
    timeout: Duration,
}

impl Deadline {
    /// The request's own, or else the default; `None` if there is neither.
    pub(super) fn of(headers: &HeaderMap, default: Option<Duration>) -> Option<Self> {
        let timeout = headers.get(GRPC_TIMEOUT).and_then(parse).or(default)?;
        // One that no clock can show is none.
        Some(Self { at: Instant::now().checked_add(timeout)?, timeout })
    }

    pub(super) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// What is left, as a header.
    pub(super) fn header(&self) -> HeaderValue {
        format(self.left())
    }

    /// The status of a call that it ended; `why` says what the call was waiting for.
    pub(super) fn exceeded(&self, service: &str, why: impl std::fmt::Display) -> Status {
        Status::deadline_exceeded(format!(
            "service {service}: the deadline of {:?} passed: {why}",
            self.timeout
        ))
    }
}

/// At most eight digits and a unit.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// In the finest unit that eight digits hold.
fn format(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (u128::from(left.as_secs()), 'S'),
        (u128::from(left.as_secs() / 60), 'M'),
        (u128::from(left.as_secs() / 3600).min(MOST), 'H'),
    ];
    let fits = units.into_iter().find(|(n, _)| *n <= MOST);
    let text = fits.map(|(n, unit)| format!("{n}{unit}")).unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// Ends the response's body with DEADLINE_EXCEEDED when the deadline passes.
pub(super) fn cover(
    response: http::Response<Body>,
    deadline: Deadline,
    service: Arc<str>,
) -> http::Response<Body> {
    let instance = response.extensions().get::<InstanceId>().cloned();
    response.map(|inner| Body::new(Covered { inner, deadline, sleep: None, service, instance }))
}

struct Covered {
    inner: Body,
    deadline: Deadline,
    /// Made when the body keeps the caller waiting: a unary response is mostly there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    service: Arc<str>,
    instance: Option<InstanceId>,
}

impl Covered {
    fn exceeded(&mut self) -> Status {
        // Resets the stream: the server need not go on.
        self.inner = Body::empty();
        match &self.instance {
            Some(instance) => {
                let why = format!("instance {instance} had not finished its response");
                self.deadline.exceeded(&self.service, why)
            }
            None => self.deadline.exceeded(&self.service, "the response had not ended"),
        }
    }
}

impl http_body::Body for Covered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            // A stream that never pauses must end too.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && this.deadline.left().is_zero() => {
                Poll::Ready(Some(Err(this.exceeded())))
            }
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => {
                let at = this.deadline.at;
                let sleep =
                    this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(this.exceeded()))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written() {
        for (text, expected) in [
            ("200m", Some(Duration::from_millis(200))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("1S", Some(Duration::from_secs(1))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("+1S", None),
            ("1s", None),
            ("100000000S", None),
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), expected, "{text:?}");
        }
        assert!(parse(&HeaderValue::from_bytes("1é".as_bytes()).unwrap()).is_none());
        for left in [0, 1, 99_999_999, 100_000_000, u64::MAX] {
            let written = format(Duration::from_nanos(left));
            let read = parse(&written).unwrap();
            assert!(read <= Duration::from_nanos(left), "{written:?}");
            assert!(written.len() <= 9);
        }
        assert_eq!(format(Duration::MAX), "99999999H");
    }
}
