//! Registrations as other ecosystems write them, by hand, seen by a watch.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::Instance;
use fleetward_core::discovery::Filter;
use fleetward_testkit::servers::Consul;
use tokio::time::{Instant, sleep};

use crate::support::*;

/// Registers it while a watch is open, and says what the watch saw, and that it did not wait for the next query.
async fn seen(consul: &Consul, body: &str) -> Arc<Instance> {
    let registry = registry(consul).await;
    let mut watch = Watch::open(&registry, "a").await;
    sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    put(consul, body).await;
    let found = watch.full_of(1).await.remove(0);
    let took = begun.elapsed();
    println!("seen after {took:?}: {found:?}");
    assert!(took <= 5 * SECOND, "an open query answers it, not the next one: {took:?}");
    found
}

#[tokio::test]
async fn go_kits_shape() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let found = seen(&consul, r#"{"ID":"a-1","Name":"a","Address":"10.0.0.1","Port":80}"#).await;
    assert_eq!(found.address().to_string(), "10.0.0.1:80");
    assert_eq!((found.id().as_str(), found.weight()), ("consul/a-1", 1));
}

#[tokio::test]
async fn the_tutorials_shape() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let body =
        r#"{"ID":"a-10.0.0.1-80","Name":"a","Tags":["grpc","x=1"],"Address":"10.0.0.1","Port":80}"#;
    let found = seen(&consul, body).await;
    assert_eq!(found.tags().iter().collect::<Vec<_>>(), ["grpc", "x=1"]);
}

#[tokio::test]
async fn kratos_shape() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let body = r#"{"ID":"c1f1","Name":"a","Tags":["version=v1.0.0"],"Address":"10.0.0.1","Port":8000,
        "TaggedAddresses":{"grpc":{"Address":"grpc://10.0.0.1:9000?isSecure=false","Port":9000},
                           "http":{"Address":"http://10.0.0.1:8000","Port":8000}},
        "Meta":{"k":"v"},
        "Checks":[{"CheckID":"service:c1f1","TTL":"20s","Status":"passing","DeregisterCriticalServiceAfter":"600s"}]}"#;
    let found = seen(&consul, body).await;
    assert_eq!(found.address().to_string(), "10.0.0.1:8000");
    assert_eq!((found.version(), found.metadata().get("k")), (Some("v1.0.0"), Some("v")));
    let registry = connect(config(&consul).with_tagged_address("grpc")).await;
    assert_eq!(addresses(&registry, "a").await, ["grpc://10.0.0.1:9000"]);

    // Without an address of its own.
    let body = r#"{"ID":"c1f1","Name":"a","TaggedAddresses":{"grpc":{"Address":"grpc://10.0.0.1:9000","Port":9000}}}"#;
    put(&consul, body).await;
    sleep(SECOND / 2).await;
    assert_eq!(addresses(&registry, "a").await, ["grpc://10.0.0.1:9000"]);
}

#[tokio::test]
async fn kitex_shape() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let body = r#"{"ID":"a:10.0.0.1:8888","Name":"a","Tags":["k:v"],"Address":"10.0.0.1","Port":8888,
        "Weights":{"Passing":10,"Warning":10},
        "Check":{"TCP":"10.0.0.1:8888","Interval":"60s","Status":"passing","DeregisterCriticalServiceAfter":"1m"}}"#;
    let found = seen(&consul, body).await;
    assert_eq!((found.weight(), found.tags().has("k:v")), (10, Some(true)));
}

#[tokio::test]
async fn go_micros_shape() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let tag = "v-789cca492c492d2e01040000ffff08cc028e";
    let body = format!(
        r#"{{"ID":"a-1","Name":"a","Tags":["{tag}"],"Address":"10.0.0.1","Port":80,"Meta":{{"protocol":"grpc"}}}}"#
    );
    let found = seen(&consul, &body).await;
    assert_eq!(found.tags().iter().collect::<Vec<_>>(), [tag]);
    assert_eq!(found.metadata().get("protocol"), Some("grpc"));
}

#[tokio::test]
async fn spring_clouds_shape() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let body = r#"{"ID":"app-8080","Name":"a","Address":"host1","Port":8080,"Meta":{"secure":"false","zone":"z1"},
        "Check":{"HTTP":"http://127.0.0.1:1/actuator/health","Interval":"10s","Status":"passing"}}"#;
    let found = seen(&consul, body).await;
    assert_eq!((found.address().to_string().as_str(), found.zone()), ("host1:8080", Some("z1")));
    assert_eq!(found.metadata().get("secure"), Some("false"));
}

#[tokio::test]
async fn pitfall_ids_are_unique_per_agent_only() {
    use crate::scripted::{Say, Scripted};
    let entry = |node: &str, host: &str| {
        format!(
            r#"{{"Node":{{"Node":"{node}","Address":"10.9.9.9","Datacenter":"dc1"}},"Service":{{"ID":"web","Service":"a","Tags":null,"Meta":null,"Address":"{host}","Port":80,"Weights":null}},"Checks":null}}"#
        )
    };
    let body = format!("[{},{}]", entry("n1", "10.0.0.1"), entry("n2", "10.0.0.2"));
    let server = Scripted::start([], Say::health("5", &body)).await;
    let found = list(&connect(server.config()).await, "a").await;
    let ids: Vec<_> = found.iter().map(|one| one.id().as_str()).collect();
    assert_eq!(ids, ["n1/web", "n2/web"]);
}

#[tokio::test]
async fn hostile_answers_are_errors_or_skipped_and_no_panic() {
    use crate::scripted::{Say, Scripted};
    use fleetward_core::discovery::Source;
    for body in ["", "{}", "nil", "[", "\u{fffd}"] {
        let server = Scripted::start([], Say::health("5", body)).await;
        let registry = connect(server.config()).await;
        assert!(registry.list(&service("a")).await.is_err(), "{body}");
    }
    let service_of = |text: &str| format!(r#"{{"Node":{{"Node":"n"}},"Service":{{{text}}}}}"#);
    let bad = [
        "7".to_owned(),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        "{}".to_owned(),
        "null".to_owned(),
        service_of(r#""ID":7"#),
        service_of(r#""ID":"1","Address":"10.0.0.1","Port":99999"#),
        service_of(r#""ID":"2","Address":"10.0.0.1","Port":-1"#),
        service_of(r#""ID":"3","Address":"10.0.0.1/x","Port":80"#),
        service_of(r#""ID":"4\r\n","Address":"10.0.0.1","Port":80"#),
        service_of(&format!(r#""ID":"{}","Address":"10.0.0.1","Port":80"#, "x".repeat(300))),
        service_of(&format!(
            r#""ID":"5","Address":"10.0.0.1","Port":80,"Meta":{{"k":"{}"}}"#,
            "x".repeat(70_000)
        )),
    ];
    let good = service_of(
        r#""ID":"6","Address":"10.0.0.1","Port":80,"Weights":{"Passing":-7},"Meta":{"fleetward_weight":"x","fleetward_x_zz":"y"}"#,
    );
    let server =
        Scripted::start([], Say::health("5", &format!("[{},{good}]", bad.join(",")))).await;
    let listing = connect(server.config()).await.list(&service("a")).await.unwrap();
    assert_eq!((listing.entries.len(), readable(&listing).len()), (bad.len() + 1, 1));
    assert_eq!(readable(&listing)[0].weight(), 0);
}

/// Neither much metadata nor many tags hide a tag, or make a filter take an instance for one without it.
#[tokio::test]
async fn tags_are_known_whatever_else_an_instance_says() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let meta: Vec<_> = (0..64).map(|n| format!("\"k{n}\":\"{}\"", "v".repeat(500))).collect();
    let many = |count: usize| {
        let tags: Vec<_> = (0..count).map(|n| format!("\"{n}-{}\"", "t".repeat(30))).collect();
        [tags, vec!["\"canary\"".to_owned()]].concat().join(",")
    };
    let canary = Filter::tag("canary");
    for (id, count, known) in [("few", 0, true), ("many", 900, true), ("too-many", 3000, false)] {
        let body = format!(
            r#"{{"ID":"{id}","Name":"{id}","Address":"10.0.0.1","Port":80,"Tags":[{}],"Meta":{{{}}}}}"#,
            many(count),
            meta.join(",")
        );
        put(&consul, &body).await;
        let registry = registry(&consul).await;
        let found = list(&registry, id).await.remove(0);
        assert_eq!(found.metadata().get("k63"), Some(&*"v".repeat(500)));
        assert_eq!(found.metadata().get("consul.node"), Some("consul"));
        assert_eq!(canary.matches(&found), known, "{id}");
        assert!(!canary.clone().negated().matches(&found), "{id}");
    }
}
