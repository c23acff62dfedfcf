//! Random configurations: parsing them ends with a configuration that keeps its promises, or an error.

use std::time::Duration;

use serde_json::Value;
use tonic::Code;

use super::*;

const WHOLE: &str = r#"{
    "loadBalancingPolicy": "round_robin",
    "loadBalancingConfig": [{"pick_first": {}}, {"outlier_detection_experimental": {
        "interval": "5s", "maxEjectionPercent": 30, "successRateEjection": {"stdevFactor": 1000},
        "childPolicy": [{"slow_start": {"window": "5s",
            "childPolicy": [{"least_request_experimental": {"choiceCount": 3}}]}}]}}],
    "methodConfig": [
        {"name": [{"service": "S", "method": "M"}], "timeout": "1.5s", "waitForReady": true,
         "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s",
            "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", 8]}},
        {"name": [{}, {"service": "S"}], "maxRequestMessageBytes": 5,
         "hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": ".1s", "nonFatalStatusCodes": [14]}}],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.25},
    "healthCheckConfig": {"serviceName": "S"}}"#;

const FIELDS: &[&str] = &[
    "methodConfig",
    "name",
    "service",
    "method",
    "timeout",
    "retryPolicy",
    "hedgingPolicy",
    "maxAttempts",
    "retryableStatusCodes",
    "loadBalancingConfig",
    "childPolicy",
    "outlier_detection_experimental",
    "ring_hash_experimental",
    "peak_ewma",
    "slow_start",
    "balancer",
    "retryThrottling",
    "maxTokens",
    "",
];

const SCALARS: &[&str] = &[
    "null",
    "true",
    "0",
    "1",
    "2",
    "-1",
    "-0.0",
    "1.5",
    "5e-324",
    "1e308",
    "18446744073709551616",
    "1e400",
    "NaN",
    r#""""#,
    r#""S""#,
    r#""1s""#,
    r#""-1s""#,
    r#""1e400s""#,
    r#""999999999999.9999999999s""#,
    r#""NaN""#,
    r#""Infinity""#,
    r#""-Infinity""#,
    r#""UNAVAILABLE""#,
    r#""round_robin""#,
    r#""\u0000%&?=""#,
    r#""é/\ud83d\ude00""#,
    r#""\ud800""#,
];

fn any(rng: &mut fastrand::Rng, depth: u32) -> String {
    let items = if depth == 0 { 0 } else { rng.usize(0..4) };
    match rng.u32(0..4) {
        0 | 1 => SCALARS[rng.usize(0..SCALARS.len())].to_owned(),
        2 => {
            let items: Vec<_> = (0..items).map(|_| any(rng, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let field = |rng: &mut fastrand::Rng| {
                format!("{:?}:{}", FIELDS[rng.usize(0..FIELDS.len())], any(rng, depth - 1))
            };
            let fields: Vec<_> = (0..items).map(|_| field(rng)).collect();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// The text of `value` with something random in one place of it.
fn with_a_change(value: &Value, rng: &mut fastrand::Rng) -> String {
    let here = rng.u32(0..6) == 0;
    match value {
        Value::Object(fields) if !here && !fields.is_empty() => {
            let changed = rng.usize(0..fields.len());
            let text = |(i, (name, value)): (usize, (&String, &Value))| match i == changed {
                true => format!("{name:?}:{}", with_a_change(value, rng)),
                false => format!("{name:?}:{value}"),
            };
            let fields: Vec<_> = fields.iter().enumerate().map(text).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) if !here && !items.is_empty() => {
            let changed = rng.usize(0..items.len());
            let text = |(i, value): (usize, &Value)| match i == changed {
                true => with_a_change(value, rng),
                false => value.to_string(),
            };
            let items: Vec<_> = items.iter().enumerate().map(text).collect();
            format!("[{}]", items.join(","))
        }
        _ => any(rng, 3),
    }
}

/// The text without one character, or with one twice.
fn with_a_slip(text: &str, rng: &mut fastrand::Rng) -> String {
    let at = rng.usize(0..text.len());
    let copies = if rng.bool() { 0 } else { 2 };
    let copy = |(i, c)| std::iter::repeat_n(c, if i == at { copies } else { 1 });
    text.chars().enumerate().flat_map(copy).collect()
}

/// Whether it is a configuration.
fn holds(text: &str) -> bool {
    let Ok(config) = ServiceConfig::parse(text) else { return false };
    for path in ["/S/M", "/S/", "/T/M", "", "é"] {
        let method = config.method(path);
        assert!(method.retry().is_none() || method.hedging().is_none(), "{text}");
        if let Some(policy) = method.retry() {
            assert!(
                (2..=5).contains(&policy.max_attempts()) && !policy.retries(Code::Ok),
                "{text}"
            );
            assert!(policy.backoff().step(0) > Duration::ZERO, "{text}");
        }
        if let Some(policy) = method.hedging() {
            assert!((2..=5).contains(&policy.max_attempts()), "{text}");
        }
    }
    if let Some(throttling) = config.retry_throttling() {
        assert!((1..=1000).contains(&throttling.max_tokens()) && throttling.token_ratio() > 0.0);
    }
    if let Some(spec) = config.balancer() {
        assert!(fleetward_balancers::by_name(spec).is_ok(), "{spec} of {text}");
    }
    true
}

#[test]
fn a_random_text_is_a_configuration_or_an_error_but_never_a_panic() {
    let mut rng = fastrand::Rng::with_seed(17);
    let whole: Value = serde_json::from_str(WHOLE).unwrap();
    assert!(holds(WHOLE));
    let mut tally = [[0; 2]; 3];
    for _ in 0..5000 {
        let texts =
            [any(&mut rng, 6), with_a_change(&whole, &mut rng), with_a_slip(WHOLE, &mut rng)];
        for (kind, text) in texts.iter().enumerate() {
            tally[kind][usize::from(holds(text))] += 1;
        }
    }
    // Either happens often enough for the test to mean something.
    assert!(tally[1..].iter().flatten().all(|count| *count > 200), "{tally:?}");
}
