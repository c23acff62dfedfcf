use std::time::Duration;

use tonic::Code;

use super::{error, method, parse};
use crate::{HedgingPolicy, MethodConfig, RetryPolicy, RetryThrottling};

/// The retry policy that gRFC A6 gives as its example.
const RETRY: [(&str, &str); 5] = [
    ("maxAttempts", "4"),
    ("initialBackoff", r#"".1s""#),
    ("maxBackoff", r#""1s""#),
    ("backoffMultiplier", "2"),
    ("retryableStatusCodes", r#"["UNAVAILABLE"]"#),
];

/// The example, with another value of one field or without it.
fn retry_with(field: &str, value: Option<&str>) -> String {
    let others = RETRY.into_iter().filter(|(name, _)| *name != field);
    let fields = others.chain(value.map(|value| (field, value)));
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name:?}: {value}")).collect();
    format!(r#""retryPolicy": {{{}}}"#, fields.join(", "))
}

fn retry_error(field: &str, value: Option<&str>) -> String {
    error(&format!(r#"{{"methodConfig": [{{{}}}]}}"#, retry_with(field, value)))
}

#[test]
fn the_examples_of_grfc_a6_mean_what_it_says() {
    let retry = method(&retry_with("", None));
    let (tenth, second) = (Duration::from_millis(100), Duration::from_secs(1));
    let expected = RetryPolicy::default()
        .with_max_attempts(4)
        .with_exponential_backoff(tenth, second, 2.0)
        .with_codes([Code::Unavailable]);
    assert_eq!(retry, MethodConfig::new().with_retry(expected));
    let steps: Vec<_> =
        (0..5).map(|n| retry.retry().unwrap().backoff().step(n).as_millis()).collect();
    assert_eq!(steps, [100, 200, 400, 800, 1000]);

    for (delay, millis) in
        [(r#""hedgingDelay": ".5s","#, 500), (r#""hedgingDelay": "0s","#, 0), ("", 0)]
    {
        let hedging = method(&format!(
            r#""hedgingPolicy": {{"maxAttempts": 4, {delay}
                "nonFatalStatusCodes": ["UNAVAILABLE", "INTERNAL", "ABORTED"]}}"#
        ));
        let expected = HedgingPolicy::new(Duration::from_millis(millis))
            .with_max_attempts(4)
            .with_non_fatal_codes([Code::Aborted, Code::Internal, Code::Unavailable]);
        assert_eq!(hedging, MethodConfig::new().with_hedging(expected));
    }
    let throttled = parse(r#"{"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}}"#);
    assert_eq!(throttled.retry_throttling(), RetryThrottling::new(10, 0.1).ok());
}

#[test]
fn hedging_without_codes_ends_with_the_first_failure() {
    let hedging = method(r#""hedgingPolicy": {"maxAttempts": 2}"#);
    assert!((0..17).all(|code| !hedging.hedging().unwrap().is_non_fatal(Code::from_i32(code))));
}

#[test]
fn every_rule_of_a_retry_policy_is_checked_and_its_place_named() {
    let path = "methodConfig[0].retryPolicy";
    let cases = [
        ("maxAttempts", None, "is required"),
        ("maxAttempts", Some("null"), "is required"),
        ("maxAttempts", Some("1"), "must be at least 2"),
        ("maxAttempts", Some("0"), "must be at least 2"),
        ("maxAttempts", Some("-3"), "must be a whole number from 0 to 4294967295"),
        ("maxAttempts", Some("2.5"), "must be a whole number from 0 to 4294967295"),
        ("maxAttempts", Some("4294967296"), "must be a whole number from 0 to 4294967295"),
        ("maxAttempts", Some("1e300"), "must be a whole number from 0 to 4294967295"),
        ("maxAttempts", Some("true"), "must be a number"),
        ("maxAttempts", Some(r#""many""#), "must be a number"),
        ("initialBackoff", None, "is required"),
        ("initialBackoff", Some(r#""0s""#), "must be greater than 0"),
        ("initialBackoff", Some(r#""-1s""#), "must not be negative"),
        ("initialBackoff", Some("1"), "must be a string"),
        ("maxBackoff", None, "is required"),
        ("maxBackoff", Some(r#""0.0s""#), "must be greater than 0"),
        ("maxBackoff", Some(r#""1e400s""#), "must be a duration such as \"1.5s\""),
        ("maxBackoff", Some(r#""NaNs""#), "must be a duration such as \"1.5s\""),
        ("backoffMultiplier", None, "is required"),
        ("backoffMultiplier", Some("0"), "must be greater than 0"),
        ("backoffMultiplier", Some("-2"), "must be greater than 0"),
        ("backoffMultiplier", Some(r#""NaN""#), "must be a number"),
        ("backoffMultiplier", Some(r#""Infinity""#), "must be a number"),
        ("backoffMultiplier", Some(r#""1e400""#), "must be a number"),
        (
            "retryableStatusCodes",
            None,
            "must name a code, unless perAttemptRecvTimeout gives another reason to retry",
        ),
        (
            "retryableStatusCodes",
            Some("[]"),
            "must name a code, unless perAttemptRecvTimeout gives another reason to retry",
        ),
        ("retryableStatusCodes", Some(r#""UNAVAILABLE""#), "must be a list"),
        ("perAttemptRecvTimeout", Some(r#""0s""#), "must be greater than 0"),
        ("perAttemptRecvTimeout", Some(r#""1""#), "must be a duration such as \"1.5s\""),
    ];
    for (field, value, what) in cases {
        assert_eq!(retry_error(field, value), format!("{path}.{field}: {what}"), "{value:?}");
    }
    for (bad, what) in [
        (r#""not available""#, "is no status code"),
        (r#""CANCELED""#, "is no status code"),
        ("17", "is no status code"),
        ("4294967295", "is no status code"),
        ("-1", "must be a whole number"),
        ("null", "must be a string"),
        ("0", "is OK"),
        (r#""OK""#, "is OK"),
    ] {
        let found = retry_error("retryableStatusCodes", Some(&format!("[14, {bad}]")));
        assert!(found.starts_with(&format!("{path}.retryableStatusCodes[1]: {what}")), "{found}");
    }
}

#[test]
fn a_retry_policy_is_read_with_all_it_may_have() {
    let retry = |field, value| method(&retry_with(field, Some(value))).retry().unwrap().clone();
    for (written, attempts) in
        [("2", 2), ("5", 5), ("6", 5), ("4294967295", 5), ("3.0", 3), ("3e0", 3), (r#""3""#, 3)]
    {
        assert_eq!(retry("maxAttempts", written).max_attempts(), attempts, "{written}");
    }
    let codes = retry("retryableStatusCodes", r#"["UNAVAILABLE", 14, 16, "CANCELLED"]"#);
    let retried = (0..17).filter(|code| codes.retries(Code::from_i32(*code)));
    assert_eq!(retried.collect::<Vec<_>>(), [1, 14, 16]);
    let timed = retry("perAttemptRecvTimeout", r#""0.25s""#);
    assert_eq!(timed.per_attempt_timeout(), Some(Duration::from_millis(250)));
    assert!(
        method(
            r#""retryPolicy": {"maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "0.5s",
            "backoffMultiplier": 0.5, "perAttemptRecvTimeout": "1s"}"#
        )
        .retry()
        .is_some_and(|policy| policy.backoff().step(3) == Duration::from_millis(500))
    );
}

#[test]
fn a_method_is_retried_or_hedged_but_not_both() {
    let both = format!(r#"{}, "hedgingPolicy": {{"maxAttempts": 2}}"#, retry_with("", None));
    let found = error(&format!(r#"{{"methodConfig": [{{{both}}}]}}"#));
    assert_eq!(found, "methodConfig[0]: has both a retryPolicy and a hedgingPolicy");
    let hedging = HedgingPolicy::new(Duration::ZERO);
    let last = MethodConfig::new().with_retry(RetryPolicy::default()).with_hedging(hedging.clone());
    assert_eq!((last.retry(), last.hedging()), (None, Some(&hedging)));
}
