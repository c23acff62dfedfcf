//! `grpc-retry-pushback-ms`.

use fleetward_core::backoff::Jitter;
use fleetward_grpc::{RetryThrottling, ServiceConfig};
use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

/// Without jitter, so that a wait says which step it was.
fn steps() -> RetryPolicy {
    let backoff = Backoff::new(millis(60), millis(10_000)).unwrap();
    let backoff = backoff.with_multiplier(4.0).unwrap().with_jitter(Jitter::Fraction(0.0)).unwrap();
    RetryPolicy::default().with_max_attempts(5).with_backoff(backoff)
}

#[track_caller]
fn waited(gaps: &[Duration], expected: &[u64]) {
    assert_eq!(gaps.len(), expected.len(), "{gaps:?}");
    for (gap, expected) in gaps.iter().zip(expected) {
        let least = millis(*expected).saturating_sub(EARLY);
        assert!((least..millis(*expected) + SLACK).contains(gap), "{gaps:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn the_wait_is_the_servers_and_the_backoff_begins_anew() {
    // 60, then 240 would be 960, but for the server.
    let server = Scripted::start(|n| match n {
        0 | 1 | 3 => fails(Code::Unavailable),
        2 => pushes_back(Code::Unavailable, &["400"]),
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(steps()).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    waited(&server.gaps(), &[60, 240, 400, 60]);
}

#[tokio::test]
async fn a_wait_of_zero_is_none() {
    let policy = policy().with_backoff(Backoff::new(LONG, LONG).unwrap());
    let server = Scripted::start(|n| match n {
        0 => pushes_back(Code::Unavailable, &["0"]),
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    waited(&server.gaps(), &[0]);
}

#[tokio::test]
async fn what_forbids_or_cannot_be_read_stops_the_call() {
    for values in [
        &["-1"][..],
        &["-2147483648"],
        &["xxx"],
        &[""],
        &["1.5"],
        &["+5"],
        &[" 5 5"],
        &["2147483648"],
        &["99999999999999999999"],
        &["10", "10"],
        &["100", "-1"],
    ] {
        let values: &'static [&'static str] = values.to_vec().leak();
        let server = Scripted::always(pushes_back(Code::Unavailable, values)).await;
        let throttling = RetryThrottling::new(10, 0.1).unwrap();
        let config = ServiceConfig::builder().retry_throttling(throttling).build().unwrap();
        let channel = server.builder().retry(policy()).service_config(config).build();
        // Five such calls take five of ten tokens.
        for call in 1..=5 {
            let status = morning(&channel, "you").await.unwrap_err();
            assert_eq!((status.code(), server.calls()), (Code::Unavailable, call), "{values:?}");
        }
        assert!(format!("{channel:?}").contains("tokens: 5.0"), "{values:?}: {channel:?}");
    }
}

#[tokio::test]
async fn it_does_not_make_more_attempts_than_the_policy() {
    let server = Scripted::always(pushes_back(Code::Unavailable, &["1"])).await;
    let channel = server.builder().retry(policy()).build();
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn on_a_code_that_is_not_retryable_it_does_not_make_one() {
    for value in ["0", "10", "-1"] {
        let server = Scripted::always(pushes_back(Code::InvalidArgument, vec![value].leak())).await;
        let throttling = RetryThrottling::new(10, 0.1).unwrap();
        let config = ServiceConfig::builder().retry_throttling(throttling).build().unwrap();
        let channel = server.builder().retry(policy()).service_config(config).build();
        let status = morning(&channel, "you").await.unwrap_err();
        assert_eq!((status.code(), server.calls()), (Code::InvalidArgument, 1));
        // To be left alone takes a token whatever the code; the code by itself takes none.
        let tokens = if value == "-1" { "tokens: 9.0" } else { "tokens: 10.0" };
        assert!(format!("{channel:?}").contains(tokens), "{value}: {channel:?}");
    }
}

#[tokio::test]
async fn one_in_the_trailers_of_a_response_that_has_begun_changes_nothing() {
    let trailers = vec![("grpc-retry-pushback-ms", "1")];
    let server = Scripted::always(vec![Op::Head, Op::End(Code::Unavailable, trailers)]).await;
    let channel = server.builder().retry(policy()).build();
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 1);
}

/// Steps of the policy, each between 0.8 and 1.2 of itself.
#[tokio::test]
async fn the_backoff_of_a_service_config_is_jittered_by_a_fifth() {
    let config = ServiceConfig::parse(
        r#"{"methodConfig": [{"name": [{}], "retryPolicy": {
            "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "0.3s",
            "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#,
    )
    .unwrap();
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let channel = server.builder().service_config(config).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap_err();
    let gaps = server.gaps();
    assert_eq!(gaps.len(), 4);
    for (gap, step) in gaps.iter().zip([100, 200, 300, 300]) {
        let (least, most) = (millis(step * 8 / 10) - EARLY, millis(step * 12 / 10) + SLACK);
        assert!((least..most).contains(gap), "{gaps:?}");
    }
}
