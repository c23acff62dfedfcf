//! The one line for methods that may run more than once.

use std::time::Duration;

use fleetward_core::ErrorKind;
use fleetward_core::discovery::FixedInstancer;
use fleetward_grpc::{Channel, ChannelBuilder, HedgingPolicy, MethodConfig, RetryPolicy};
use fleetward_grpc::{Connection, ServiceConfig};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::a6::script::{Op, Scripted, answers, fails, hangs, to};
use crate::greet::greet_client::GreetClient;
use crate::support::*;

/// Two servers: the first one does so, the other one answers. Instances are tried in the order of their
/// names.
async fn first(ops: Vec<Op>) -> [Scripted; 2] {
    let mut both = [Scripted::always(ops.clone()).await, Scripted::always(answers()).await];
    while both[0].id() > both[1].id() {
        both = [Scripted::always(ops.clone()).await, Scripted::always(answers()).await];
    }
    both
}

async fn servers() -> [Scripted; 2] {
    first(hangs()).await
}

fn builder(servers: &[Scripted]) -> ChannelBuilder<FixedInstancer> {
    to(servers).timeout(LONG)
}

async fn first_call(channel: &Channel<Connection>, servers: usize) -> Result<(), Status> {
    ready(channel, servers).await;
    let call = timeout(2 * LONG, morning(channel, "you")).await.expect("the call hangs");
    call.map(drop)
}

#[tokio::test]
async fn an_idempotent_call_does_not_wait_for_an_instance_that_hangs() {
    for name in ["/Greet/Morning", "Greet", "*"] {
        let servers = servers().await;
        let channel = builder(&servers).idempotent([name]).unwrap().build();
        first_call(&channel, 2).await.unwrap();
        assert!(servers[0].calls() > 0 && servers[1].calls() > 0, "{name}");
    }
}

/// Nor is it repeated: the instance may have carried it out.
#[tokio::test]
async fn any_other_call_ends_at_its_deadline() {
    for names in [vec![], vec!["/Greet/Night", "/Greet/Gather"], vec!["Greeter", "greet"]] {
        for retry in [None, Some(RetryPolicy::default())] {
            let servers = servers().await;
            let mut builder = builder(&servers).timeout(Duration::from_millis(1500));
            if let Some(retry) = retry {
                builder = builder.retry(retry);
            }
            let channel = builder.idempotent(&names).unwrap().build();
            let status = first_call(&channel, 2).await.unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{names:?}: {status}");
            assert_eq!((servers[0].calls(), servers[1].calls()), (1, 0), "{names:?}");
        }
    }
}

#[tokio::test]
async fn what_the_channel_tries_again_is_tried_again_for_an_idempotent_method_too() {
    let servers = first(fails(Code::Aborted)).await;
    let retry = RetryPolicy::default().with_codes([Code::Aborted]);
    let channel = builder(&servers).retry(retry).idempotent(["*"]).unwrap().build();
    first_call(&channel, 2).await.unwrap();
    // Not what nobody asked for.
    let servers = first(fails(Code::Aborted)).await;
    let channel = builder(&servers).idempotent(["*"]).unwrap().build();
    assert_eq!(first_call(&channel, 2).await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn a_method_that_the_service_config_has_a_policy_for_keeps_it() {
    let once = MethodConfig::new().with_retry(RetryPolicy::default().with_max_attempts(2));
    let timed = MethodConfig::new().with_timeout(Duration::from_secs(5));
    let config = |morning: MethodConfig| {
        let config = ServiceConfig::builder().method("/Greet/Morning", morning);
        config.build().unwrap()
    };
    for (morning, hedged) in [(once, false), (timed, true)] {
        for name in ["/Greet/Morning", "Greet", "*"] {
            let servers = servers().await;
            let channel = builder(&servers)
                .timeout(Duration::from_millis(1500))
                .service_config(config(morning.clone()))
                .idempotent([name])
                .unwrap()
                .build();
            let answer = first_call(&channel, 2).await;
            assert_eq!(answer.is_ok(), hedged, "{name}: {answer:?}");
            // A new configuration does not forget what is idempotent.
            let servers = self::servers().await;
            let channel = builder(&servers).idempotent([name]).unwrap().build();
            channel.set_service_config(&config(MethodConfig::new()));
            first_call(&channel, 2).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_delay_of_ones_own_takes_the_place_of_ours() {
    let servers = servers().await;
    let hedge = HedgingPolicy::new(Duration::from_secs(3600));
    let channel = builder(&servers)
        .timeout(Duration::from_millis(1500))
        .hedge(hedge)
        .idempotent(["*"])
        .unwrap()
        .build();
    let status = first_call(&channel, 2).await.unwrap_err();
    assert_eq!((status.code(), servers[1].calls()), (Code::DeadlineExceeded, 0), "{status}");
}

#[test]
fn what_names_no_method_is_an_error() {
    for name in ["", "/", "/Greet", "/Greet/", "Greet/Morning", "Greet/", "greet.*", "a b"] {
        let error = Channel::builder(()).idempotent([name]).err();
        let error = error.unwrap_or_else(|| panic!("{name:?} is taken"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        assert!(error.to_string().contains("/greet.Greeter/Hello"), "{error}");
    }
}

/// Half of ten instances hang: hardly a call of an idempotent method fails.
#[tokio::test]
async fn half_of_all_instances_may_hang() {
    let mut failed = Vec::new();
    for idempotent in [false, true] {
        let mut servers = Vec::new();
        for n in 0..10 {
            let script = if n % 2 == 0 { hangs() } else { answers() };
            servers.push(Scripted::always(script).await);
        }
        let names: &[&str] = if idempotent { &["*"] } else { &[] };
        let list = FixedInstancer::new("greeter", servers.iter().map(Scripted::instance));
        let builder = Channel::builder(list).timeout(Duration::from_secs(2));
        let channel = builder.idempotent(names).unwrap().build();
        ready(&channel, 10).await;
        let calls = (0..200).map(|n| {
            let channel = channel.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20 * n)).await;
                let mut client = GreetClient::new(channel);
                client.morning(named("you")).await.is_err()
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut count = 0;
        for call in calls {
            count += usize::from(call.await.unwrap());
        }
        failed.push(count);
    }
    eprintln!("of 200 calls failed: {} by default, {} idempotent", failed[0], failed[1]);
    assert!(failed[0] > 20 && failed[1] < failed[0] / 4, "{failed:?}");
}
