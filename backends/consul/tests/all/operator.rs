//! What an operator has set, and registrations under one id.

use fleetward_consul::{ConsulCheck, ConsulConfig};
use fleetward_core::ErrorKind;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::time::sleep;

use crate::support::*;

const ID: &str = "a:10.0.0.1:80";

async fn maintenance(consul: &Consul, path: &str, enable: bool) {
    consul.put(&format!("/v1/agent/{path}?enable={enable}&reason=by%20hand"), "").await;
}

/// Whether the agent has the check.
async fn has(consul: &Consul, check: &str) -> bool {
    let text = consul.get("/v1/agent/checks").await;
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    all.contains_key(check)
}

#[tokio::test]
async fn a_registration_leaves_maintenance_as_it_is() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let (interval, timeout) = (SECOND, SECOND);
    let checks = [
        ConsulCheck::Ttl,
        // Another kind in place of the one that stands, and back.
        ConsulCheck::Tcp { interval, timeout },
        ConsulCheck::Ttl,
    ];
    register(&registry(&consul).await, 0).await;
    for (path, check) in [
        (format!("service/maintenance/{ID}"), format!("_service_maintenance:{ID}")),
        ("maintenance".to_owned(), "_node_maintenance".to_owned()),
    ] {
        for kind in &checks {
            maintenance(&consul, &path, true).await;
            // A process that was started again knows nothing of it.
            let registry = connect(config(&consul).with_check(kind.clone())).await;
            let mut lease = register(&registry, 0).await.lease;
            renewed(&registry, &mut lease).await;
            assert!(has(&consul, &check).await, "{check} with {kind:?}");
            let text = consul.get("/v1/agent/checks").await;
            assert!(text.contains("by hand"), "the reason too: {text}");
            let lenient = connect(config(&consul).with_passing(false)).await;
            assert_eq!(list(&lenient, "a").await[0].weight(), 0);
            maintenance(&consul, &path, false).await;
            let here = || async { list(&lenient, "a").await[0].weight() == 1 };
            // A check that Consul runs fails by itself here.
            if *kind == ConsulCheck::Ttl {
                eventually("it takes calls again", 5 * SECOND, here).await;
            }
        }
    }
}

#[tokio::test]
async fn maintenance_outlives_the_loss_of_the_registration_and_of_the_agent() {
    let builder = || Consul::builder().with_data();
    let Some(first) = builder().start_or_skip().await else { return };
    let Some(second) = builder().start_or_skip().await else { return };
    let registry = connect(ConsulConfig::new([first.endpoint(), second.endpoint()])).await;
    let _registration = keep(&registry, 0, 3 * SECOND).await;
    maintenance(&first, &format!("service/maintenance/{ID}"), true).await;
    let check = format!("_service_maintenance:{ID}");
    // A heartbeat sees it.
    sleep(SECOND * 3 / 2).await;
    remove(&first, ID).await;
    let again = || async { has(&first, &check).await };
    eventually("it is registered again, in maintenance", 10 * SECOND, again).await;
    first.kill().await;
    let there = || async { has(&second, &check).await };
    eventually("it moves, in maintenance", 10 * SECOND, there).await;
    // It ends where it was ended.
    maintenance(&second, &format!("service/maintenance/{ID}"), false).await;
    sleep(SECOND * 3 / 2).await;
    remove(&second, ID).await;
    let back = || async { services(&second).await == [ID] };
    eventually("it is registered again", 10 * SECOND, back).await;
    assert!(!has(&second, &check).await);
}

#[tokio::test]
async fn a_dead_twin_is_replaced_and_a_living_one_is_left_alone() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let (ours, theirs) = (registry(&consul).await, registry(&consul).await);
    let ttl = 2 * SECOND;
    let registration = keep(&ours, 0, ttl).await;
    let mut twin = theirs.register(&service("a"), &instance(0), ttl).await.unwrap().lease;
    let conflict = || async {
        registration.status().error().is_some_and(|error| error.kind() == ErrorKind::Conflict)
    };
    eventually("it sees that it was superseded, and says so", 5 * SECOND, conflict).await;
    for _ in 0..10 {
        let kept = renewed(&theirs, &mut twin).await;
        assert!(matches!(kept, KeptAlive::Alive { .. }), "{kept:?}");
        assert!(!registration.status().is_registered(), "it stands back");
        sleep(SECOND / 2).await;
    }
    // The twin is stopped. After its time to live it is critical; after another one it is dead.
    let back = || async { registration.status().is_registered() };
    eventually("the living one takes its place", 20 * SECOND, back).await;
    let passing = || async { list(&ours, "a").await.len() == 1 };
    eventually("it is seen", 10 * SECOND, passing).await;
    // It was only paused: it finds itself superseded, and stands back.
    let kept = renewed(&theirs, &mut twin).await;
    let KeptAlive::Superseded { reason } = kept else { panic!("{kept:?}") };
    assert_eq!(reason.kind(), ErrorKind::Conflict);
    assert!(registration.status().is_registered());
    registration.deregister().await.unwrap();
}

#[tokio::test]
async fn what_a_replaced_registration_of_others_left_is_removed() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let body = format!(
        r#"{{"ID":"{ID}","Name":"a","Address":"10.0.0.1","Port":80,"Checks":[{{"CheckID":"x y/1","TTL":"1h"}}]}}"#
    );
    put(&consul, &body).await;
    let registry = registry(&consul).await;
    register(&registry, 0).await;
    assert!(!has(&consul, "x y/1").await);
    assert_eq!(list(&registry, "a").await.len(), 1);
    // A check that somebody adds to ours stays.
    let body = format!(r#"{{"ID":"added","Name":"added","TTL":"1h","ServiceID":"{ID}"}}"#);
    consul.put("/v1/agent/check/register", &body).await;
    register(&registry, 0).await;
    assert!(has(&consul, "added").await);
}
