//! Several agents: fail over, and nothing left behind.

use fleetward_consul::ConsulConfig;
use fleetward_core::{ErrorKind, Source};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::time::{Instant, timeout};

use crate::scripted::{Say, Scripted, entry};
use crate::support::*;

#[tokio::test]
async fn a_dead_agent_costs_one_call() {
    let one = format!("[{}]", entry("1", "10.0.0.1"));
    let server = Scripted::start([], Say::health("5", &one)).await;
    let config = ConsulConfig::new(["127.0.0.1:1".to_owned(), server.endpoint()]);
    let registry = connect(config).await;
    let error = registry.list(&service("a")).await.unwrap_err();
    assert_eq!(error.context("agent"), Some("http://127.0.0.1:1"));
    for _ in 0..5 {
        assert_eq!(list(&registry, "a").await.len(), 1);
    }
}

#[tokio::test]
async fn pitfall_429_and_503_go_to_another_server() {
    for status in [429, 503, 500] {
        let busy = Scripted::start([], Say::Answer(status, Vec::new(), "busy".into())).await;
        let good = Scripted::start([], Say::health("5", "[]")).await;
        let config = ConsulConfig::new([busy.endpoint(), good.endpoint()]);
        let registry = connect(config).await;
        let error = registry.list(&service("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(registry.list(&service("a")).await.is_ok());
    }
}

#[tokio::test]
async fn a_registration_moves_and_leaves_nothing_behind() {
    // Two agents that keep what they know, each with its own view: the worst case.
    let builder = || Consul::builder().with_data();
    let Some(first) = builder().start_or_skip().await else { return };
    let Some(second) = builder().start_or_skip().await else { return };
    let config = ConsulConfig::new([first.endpoint(), second.endpoint()]);
    let registry = connect(config).await;
    let registration = keep(&registry, 0, 3 * SECOND).await;
    assert_eq!(services(&first).await, ["a:10.0.0.1:80"]);
    for how in ["kill", "pause"] {
        match how {
            "kill" => first.kill().await,
            _ => first.pause(),
        }
        let begun = Instant::now();
        let there = || async { services(&second).await == ["a:10.0.0.1:80"] };
        eventually("it is registered at the other agent", 4 * SECOND, there).await;
        println!("moved {:?} after the {how}", begun.elapsed());
        let known = || async { registration.status().is_registered() };
        eventually("the registration knows it", SECOND, known).await;
        match how {
            "kill" => first.start_again().await,
            _ => first.resume(),
        }
        let left = || async { services(&first).await.is_empty() };
        eventually("the old registration is removed", 5 * SECOND, left).await;
        assert_eq!(services(&second).await, ["a:10.0.0.1:80"]);
        // Back to the first one for the second round.
        second.kill().await;
        let back = || async { services(&first).await == ["a:10.0.0.1:80"] };
        eventually("it moves back", 4 * SECOND, back).await;
        second.start_again().await;
        let left = || async { services(&second).await.is_empty() };
        eventually("nothing is left", 5 * SECOND, left).await;
    }
    registration.deregister().await.unwrap();
    assert!(services(&first).await.is_empty() && services(&second).await.is_empty());
}

#[tokio::test]
async fn two_registrations_of_one_instance_are_one() {
    // What stands at two agents for a moment, after a fail over.
    let twin = |node: &str| {
        format!(
            r#"{{"Node":{{"Node":"{node}"}},"Service":{{"ID":"a:x","Service":"a","Address":"10.0.0.1","Port":80,"Meta":{{"fleetward_id":"x","fleetward_lease":"{node}"}}}}}}"#
        )
    };
    let body = format!("[{},{}]", twin("n1"), twin("n2"));
    let server = Scripted::start([Say::health("5", &body)], Say::Silence).await;
    let mut watch = follow(&connect(server.config()).await);
    let one = timeout(SECOND, watch.wait_for(|now| !now.instances.is_empty())).await;
    let one = one.unwrap().unwrap();
    assert_eq!((one.instances.len(), one.instances[0].id().as_str()), (1, "x"));
}
