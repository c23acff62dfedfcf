//! Several agents: fail over, and nothing left behind.

use fleetward_consul::ConsulConfig;
use fleetward_core::discovery::Source;
use fleetward_testkit::eventually;
use fleetward_testkit::proxy::FaultProxy;
use fleetward_testkit::servers::Consul;
use tokio::time::{Instant, timeout};

use crate::lossy::Lossy;
use crate::scripted::{Say, Scripted, entry};
use crate::support::*;

#[tokio::test]
async fn a_call_fails_only_after_every_agent_was_tried() {
    let one = format!("[{}]", entry("1", "10.0.0.1"));
    let good = Scripted::start([], Say::health("5", &one)).await;
    let hung = Scripted::start([], Say::Silence).await;
    let busy = |status| Scripted::start([], Say::Answer(status, Vec::new(), "busy".into()));
    let page = Say::Answer(200, vec!["Content-Type: text/html".into()], "<html>Welcome".into());
    let (limited, later, failed) = (busy(429).await, busy(503).await, busy(500).await);
    let page = Scripted::start([], page).await;
    let closing = Scripted::start([], Say::Hangup).await;
    let dead = "127.0.0.1:1".to_owned();
    let bad = [&limited, &later, &failed, &hung, &page, &closing].map(Scripted::endpoint);
    for bad in bad.into_iter().chain([dead.clone()]) {
        let registry = connect(ConsulConfig::new([bad.clone(), good.endpoint()])).await;
        assert_eq!(list(&registry, "a").await.len(), 1, "{bad}");
        let again = Instant::now();
        assert_eq!(list(&registry, "a").await.len(), 1);
        assert!(again.elapsed() < SECOND, "the one that failed is left: {bad}");
    }
    let registry = connect(ConsulConfig::new([dead, failed.endpoint()])).await;
    let error = registry.list(&service("a")).await.unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
    assert!(error.context("before").unwrap().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_first_registration_and_a_watch_reach_the_agent_that_works() {
    let Some(hung) = Consul::start_or_skip().await else { return };
    let Some(good) = Consul::start_or_skip().await else { return };
    hung.pause().await;
    for bad in ["127.0.0.1:1".to_owned(), hung.endpoint()] {
        let registry = connect(ConsulConfig::new([bad, good.endpoint()])).await;
        let mut watch = follow(&registry);
        // The shortest time to live leaves a second for both agents.
        let registration = keep(&registry, 0, 3 * SECOND).await;
        converged(&mut watch, 1, 10 * SECOND).await;
        registration.deregister().await.unwrap();
    }
}

#[tokio::test]
async fn a_watch_whose_agent_ends_or_hangs_goes_on_at_another_without_a_stale_moment() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    // Two ways to one agent are two agents that know the same.
    let ways = [FaultProxy::start(consul.addr()).await, FaultProxy::start(consul.addr()).await];
    let config = ConsulConfig::new(ways.each_ref().map(FaultProxy::endpoint));
    let registry = connect(config.with_silence(SECOND)).await;
    put_plain(&consul, "a", "1", "10.0.0.1").await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 10 * SECOND).await;
    for round in 0..3 {
        let current = &ways[round % 2];
        match round {
            0 => current.swallow(),
            1 => current.refuse().await,
            _ => {}
        }
        if round == 0 {
            current.half_open();
        } else {
            current.reset();
        }
        let quiet = timeout(5 * SECOND, watch.wait_for(|now| now.freshness.is_stale()));
        assert!(quiet.await.is_err(), "{:?}", watch.current());
        put_plain(&consul, "a", &format!("more {round}"), "10.0.0.2").await;
        converged(&mut watch, round + 2, 10 * SECOND).await;
        current.heal().await;
    }
}

#[tokio::test]
async fn a_registration_of_unknown_outcome_leaves_no_twin() {
    let builder = || Consul::builder().with_data();
    let Some(first) = builder().start_or_skip().await else { return };
    let Some(second) = builder().start_or_skip().await else { return };
    let lossy = Lossy::start(&first).await;
    let registry = connect(ConsulConfig::new([lossy.endpoint(), second.endpoint()])).await;
    // It arrives, and nobody is told so.
    lossy.lose_answers(true);
    let registration = keep(&registry, 0, 9 * SECOND).await;
    assert_eq!(services(&first).await, ["a:10.0.0.1:80"]);
    assert_eq!(services(&second).await, ["a:10.0.0.1:80"]);
    lossy.lose_answers(false);
    let left = || async { services(&first).await.is_empty() };
    eventually("the twin is cleared", 15 * SECOND, left).await;
    assert_eq!(services(&second).await, ["a:10.0.0.1:80"]);
    registration.deregister().await.unwrap();
    assert!(services(&second).await.is_empty());
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
            _ => first.pause().await,
        }
        let begun = Instant::now();
        let there = || async { services(&second).await == ["a:10.0.0.1:80"] };
        eventually("it is registered at the other agent", 4 * SECOND, there).await;
        println!("moved {:?} after the {how}", begun.elapsed());
        let known = || async { registration.status().is_registered() };
        eventually("the registration knows it", 5 * SECOND, known).await;
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
    let one = timeout(5 * SECOND, watch.wait_for(|now| !now.instances.is_empty())).await;
    let one = one.unwrap().unwrap();
    assert_eq!((one.instances.len(), one.instances[0].id().as_str()), (1, "x"));
}
