//! What a service config says about its methods.

use fleetward_core::balancing::WaitForReady;
use fleetward_grpc::ServiceConfig;
use tokio::time::Instant;
use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

fn retrying(names: &str, attempts: u32) -> String {
    format!(
        r#"{{"name": [{names}], "retryPolicy": {{"maxAttempts": {attempts},
        "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"]}}}}"#
    )
}

fn config(methods: &[String]) -> ServiceConfig {
    ServiceConfig::parse(&format!(r#"{{"methodConfig": [{}]}}"#, methods.join(","))).unwrap()
}

async fn made(server: &Scripted, channel: &Channel) -> (usize, usize) {
    let before = server.calls();
    morning(channel, "you").await.unwrap_err();
    let unary = server.calls() - before;
    GreetClient::new(channel.clone()).countdown(named("you")).await.unwrap_err();
    (unary, server.calls() - before - unary)
}

#[tokio::test]
async fn a_method_has_its_own_or_its_services_or_the_default() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let method = retrying(r#"{"service": "Greet", "method": "Morning"}"#, 5);
    let service = retrying(r#"{"service": "Greet"}"#, 4);
    let default = retrying("{}", 3);
    let other = retrying(r#"{"service": "Other"}"#, 5);
    for (methods, expected) in [
        (vec![&method, &service, &default], (5, 4)),
        (vec![&default, &service], (4, 4)),
        (vec![&default, &method], (5, 3)),
        (vec![&default, &other], (3, 3)),
        // The channel's own, where the configuration says nothing.
        (vec![&method, &other], (5, 2)),
    ] {
        let methods: Vec<_> = methods.into_iter().cloned().collect();
        let config = config(&methods);
        let own = policy().with_max_attempts(2);
        let channel = server.builder().retry(own).service_config(config).build();
        assert_eq!(made(&server, &channel).await, expected, "{methods:?}");
    }
}

#[tokio::test]
async fn a_new_one_holds_from_the_next_call_on_and_a_bad_one_never() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let channel = server.builder().build();
    assert_eq!(made(&server, &channel).await, (1, 1));
    channel.set_service_config(&config(&[retrying("{}", 3)]));
    assert_eq!(made(&server, &channel).await, (3, 3));
    for bad in [
        "{",
        r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 1}}]}"#,
        r#"{"methodConfig": [{"name": [{"method": "Morning"}]}]}"#,
    ] {
        if let Ok(config) = ServiceConfig::parse(bad) {
            channel.set_service_config(&config);
        }
        assert_eq!(made(&server, &channel).await, (3, 3), "{bad}");
    }
    channel.set_service_config(&config(&[retrying("{}", 2)]));
    assert_eq!(made(&server, &channel).await, (2, 2));
    channel.set_service_config(&ServiceConfig::default());
    assert_eq!(made(&server, &channel).await, (1, 1));
}

#[tokio::test]
async fn a_call_under_way_keeps_the_one_it_began_with() {
    let server = Scripted::always([vec![Op::Sleep(50)], fails(Code::Unavailable)].concat()).await;
    let channel = server.builder().service_config(config(&[retrying("{}", 3)])).build();
    let called = channel.clone();
    let call = tokio::spawn(async move { morning(&called, "you").await });
    until("it began", || server.calls() == 1).await;
    channel.set_service_config(&ServiceConfig::default());
    call.await.unwrap().unwrap_err();
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn tokens_outlive_a_configuration_that_throttles_in_the_same_way() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let throttled = |ratio: f64| {
        let text = format!(
            r#"{{"methodConfig": [{}], "retryThrottling": {{"maxTokens": 10, "tokenRatio": {ratio}}}}}"#,
            retrying("{}", 5)
        );
        ServiceConfig::parse(&text).unwrap()
    };
    let channel = server.builder().service_config(throttled(0.1)).build();
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 5);
    channel.set_service_config(&throttled(0.1));
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 5 + 1, "the tokens are spent still");
    channel.set_service_config(&throttled(0.2));
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 6 + 5, "other tokens");
}

#[tokio::test]
async fn hedging_by_configuration() {
    let server = Scripted::always(answers_after(200)).await;
    let text = r#"{"methodConfig": [{"name": [{"service": "Greet", "method": "Morning"}],
        "hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.02s",
        "nonFatalStatusCodes": ["UNAVAILABLE"]}}]}"#;
    let config = ServiceConfig::parse(text).unwrap();
    // In the place of what the channel would do.
    let channel = server.builder().retry(policy()).service_config(config).build();
    morning(&channel, "you").await.unwrap();
    assert_eq!(server.calls(), 3);
    GreetClient::new(channel).countdown(named("you")).await.unwrap();
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn wait_for_ready_waits_until_the_deadline_and_without_it_a_call_fails_at_once() {
    let dead = Scripted { address: dead_address().await, ..Scripted::always(vec![]).await };
    let text =
        |wait| format!(r#"{{"methodConfig": [{{"name": [{{}}], "waitForReady": {wait}}}]}}"#);
    for (wait, code, least, most) in
        [(true, Code::DeadlineExceeded, 400, 400 + 250), (false, Code::Unavailable, 0, 250)]
    {
        let config = ServiceConfig::parse(&text(wait)).unwrap();
        let channel = dead
            .builder()
            .connection(quick())
            // The configuration's word is the last.
            .wait_for_ready(WaitForReady::AtMost(millis(100)))
            .timeout(millis(400))
            .service_config(config)
            .build();
        let started = Instant::now();
        let status = morning(&channel, "you").await.unwrap_err();
        let took = started.elapsed();
        assert_eq!(status.code(), code, "{status:?}");
        assert!((millis(least)..millis(most)).contains(&took), "{wait}: {took:?}");
    }
}
