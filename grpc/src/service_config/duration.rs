//! Durations as protobuf writes them in JSON: `1.5s`.

use std::time::Duration;

/// What `google.protobuf.Duration` can hold: about 10,000 years.
const MOST_SECONDS: u64 = 315_576_000_000;

/// Reads decimal seconds with at most nine digits after the point. A digit missing on one side of the
/// point is none: gRPC's own documents write `.5s`.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "must be a duration such as \"1.5s\"";
    let number = text.strip_suffix('s').ok_or(FORM)?;
    if number.starts_with('-') {
        return Err("must not be negative");
    }
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (seconds.is_empty() && fraction.is_empty()) || !is_digits(seconds) || !is_digits(fraction) {
        return Err(FORM);
    }
    if fraction.len() > 9 {
        return Err("must have at most nine digits after the point");
    }
    // Only digits: what fails to parse is too large, or empty.
    let whole = if seconds.is_empty() { Ok(0) } else { seconds.parse::<u64>() };
    let whole = whole.ok().filter(|whole| *whole <= MOST_SECONDS);
    let nanos = format!("{fraction:0<9}").parse().map_err(|_| FORM)?;
    Ok(Duration::new(whole.ok_or("must be at most 315576000000s")?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        for (text, nanos) in [
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("0.000000001s", 1),
            ("3.999999999s", 3_999_999_999),
            ("007s", 7_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(parse("315576000000s"), Ok(Duration::from_secs(MOST_SECONDS)));
    }

    #[test]
    fn what_is_no_duration_is_an_error() {
        for text in [
            "",
            "s",
            ".s",
            "1",
            "1.5",
            "1ms",
            "1m",
            "1 s",
            " 1s",
            "1s ",
            "+1s",
            "-1s",
            "-0s",
            "--1s",
            "1e3s",
            "1e400s",
            "NaNs",
            "infs",
            "Infinitys",
            "1..5s",
            "1.2.3s",
            "1.-5s",
            "0x1s",
            "1,5s",
            "1.0000000000s",
            "315576000001s",
            "18446744073709551616s",
            "٣s",
            "1ss",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("-1.5s"), Err("must not be negative"));
        assert!(parse(&format!("{}s", "9".repeat(1 << 20))).is_err());
    }
}
