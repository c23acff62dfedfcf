//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// How long the server asks to be left alone. Nothing if the header is not there or cannot be read;
/// a date that has passed is zero.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is as good as for ever.
        return Some(Duration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_read() {
        // RFC 9110's own example: Sun, 06 Nov 1994 08:49:37 GMT.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let seconds = |n| Some(Duration::from_secs(n));
        for (text, expected) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 7 ", seconds(7)),
            ("99999999999999999999999", seconds(u32::MAX.into())),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(30)),
            ("Sun Nov  6 08:49:37 1994", seconds(30)),
            ("Fri, 04 Nov 1994 08:49:37 GMT", seconds(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1s", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected, "{text:?}");
        }
        let odd = HeaderValue::from_bytes(&[0xff]).unwrap();
        assert_eq!(retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, odd)]), now), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
