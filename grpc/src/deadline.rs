//! The one deadline of a call: read from `grpc-timeout` once, and written as what is left of it when
//! an attempt is sent.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::Status;

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When a call must have ended. Stands in a request's extensions for the connection, which is the
/// first to know when the request leaves: it may have waited for an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    /// As the caller gave it, for messages.
    timeout: Duration,
}

impl Deadline {
    /// The request's own, or else the default, but no later than `at_most`; `None` if there is none.
    pub(crate) fn of(
        headers: &HeaderMap,
        default: Option<Duration>,
        at_most: Option<Duration>,
    ) -> Option<Self> {
        let own = timeout(headers).or(default);
        let timeout = [own, at_most].into_iter().flatten().min()?;
        // One that no clock can show is none.
        Some(Self { at: Instant::now().checked_add(timeout)?, timeout })
    }

    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Writes what is left into a request that leaves now.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let mut left = format(self.left());
        // It is another one each time. "Sensitive" is how HPACK is told not to remember it: else its table
        // fills with them, and each call compares its own with all of those.
        left.set_sensitive(true);
        headers.insert(GRPC_TIMEOUT, left);
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// The status of a call that it ended; `why` says what the call was waiting for.
    pub(crate) fn exceeded(&self, service: &str, why: impl std::fmt::Display) -> Status {
        Status::deadline_exceeded(format!(
            "service {service}: the deadline of {:?} passed: {why}",
            self.timeout
        ))
    }
}

/// What a request says of itself, if it can be read.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get(GRPC_TIMEOUT).and_then(parse)
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
