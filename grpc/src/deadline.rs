//! The one deadline of a call: read from `grpc-timeout` once, and written as what is left of it when
//! an attempt is sent; a thousandth more or less is the same.

use std::time::Duration;

use fleetward_client::Deadline;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long a call may take, and how a request says so.
#[derive(Clone, Debug)]
pub(crate) struct Timeout {
    length: Duration,
    text: HeaderValue,
}

impl Timeout {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, text: remembered_if_round(format(length)) }
    }

    fn read(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(&GRPC_TIMEOUT)?;
        Some(Self { length: parse(text)?, text: remembered_if_round(text.clone()) })
    }
}

/// "Sensitive" is how HPACK is told not to remember a value. Its table fills with what is another one
/// each time, and each call compares its own with all of those; of the round ones there are few.
fn remembered_if_round(mut text: HeaderValue) -> HeaderValue {
    let digits = text.as_bytes().split_last().map_or(&[][..], |(_, digits)| digits);
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    text.set_sensitive(digits.len() - zeros > 3);
    text
}

/// The request's own deadline, or else the default, but no later than `at_most`; `None` if there is none. The request
/// says from now on which one it is.
pub(crate) fn of(
    headers: &mut HeaderMap,
    default: Option<&Timeout>,
    at_most: Option<&Timeout>,
) -> Option<Deadline> {
    let own = Timeout::read(headers);
    let own = own.as_ref().or(default);
    let Timeout { length, text } =
        [own, at_most].into_iter().flatten().min_by_key(|timeout| timeout.length)?;
    // One that no clock can show is none.
    let deadline = Deadline::after(*length)?;
    headers.insert(&GRPC_TIMEOUT, text.clone());
    Some(deadline)
}

/// Writes what is left into a request that leaves now: it may have waited for an endpoint. Mostly that is still all of
/// it, which the request says already.
pub(crate) fn write(deadline: Deadline, headers: &mut HeaderMap) {
    let (left, timeout) = (deadline.left(), deadline.timeout());
    if left < timeout - timeout / 1000 {
        headers.insert(&GRPC_TIMEOUT, remembered_if_round(format(left)));
    }
}

/// The status of a call that its deadline ended; `why` says what the call was waiting for.
pub(crate) fn exceeded(deadline: Deadline, service: &str, why: impl std::fmt::Display) -> Status {
    let timeout = deadline.timeout();
    Status::deadline_exceeded(format!(
        "service {service}: the deadline of {timeout:?} passed: {why}"
    ))
}

/// What a request says of itself, if it can be read.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get(&GRPC_TIMEOUT).and_then(parse)
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

    #[tokio::test(start_paused = true)]
    async fn a_request_says_what_is_left_and_only_round_values_are_remembered() {
        let second = Timeout::new(Duration::from_secs(1));
        let long = Timeout::new(Duration::from_secs(10));
        let mut headers = HeaderMap::new();
        let told = |headers: &HeaderMap| {
            let told = &headers[&GRPC_TIMEOUT];
            (told.to_str().unwrap().to_owned(), !told.is_sensitive())
        };
        let deadline = of(&mut headers, Some(&second), Some(&long)).unwrap();
        assert_eq!(told(&headers), ("1000000u".to_owned(), true));
        tokio::time::advance(Duration::from_micros(999)).await;
        write(deadline, &mut headers);
        assert_eq!(told(&headers), ("1000000u".to_owned(), true), "to a thousandth");
        tokio::time::advance(Duration::from_micros(234)).await;
        write(deadline, &mut headers);
        assert_eq!(told(&headers), ("998767u".to_owned(), false));
        // Its own, the first of several, unless that is too long.
        for (own, expected) in [("1234567u", ("1234567u", false)), ("1M", ("10000000u", true))] {
            let mut headers = HeaderMap::new();
            headers.append(&GRPC_TIMEOUT, HeaderValue::from_static(own));
            headers.append(&GRPC_TIMEOUT, HeaderValue::from_static("1n"));
            assert!(of(&mut headers, Some(&second), Some(&long)).is_some());
            assert_eq!(told(&headers), (expected.0.to_owned(), expected.1));
            assert_eq!(headers.len(), 1);
        }
    }
}
