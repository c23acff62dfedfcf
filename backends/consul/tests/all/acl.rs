//! Tokens and permissions.

use fleetward_core::discovery::Source;
use fleetward_core::registration::Registry;
use fleetward_core::{Error, ErrorKind};
use fleetward_testkit::servers::Consul;
use tokio::time::timeout;

use crate::scripted::{Say, Scripted, entry};
use crate::support::*;

async fn protected() -> Option<Consul> {
    Consul::builder().with_acl().start_or_skip().await
}

/// A token that may do these things.
async fn token(consul: &Consul, name: &str, rules: &str) -> String {
    let body = serde_json::json!({ "Name": name, "Rules": rules }).to_string();
    consul.put("/v1/acl/policy", &body).await;
    let body = serde_json::json!({ "Policies": [{ "Name": name }] }).to_string();
    let text = consul.put("/v1/acl/token", &body).await;
    let token: serde_json::Value = serde_json::from_str(&text).unwrap();
    token["SecretID"].as_str().unwrap().to_owned()
}

const WORKER: &str = r#"service "a" { policy = "write" } node_prefix "" { policy = "read" }"#;

fn assert_clean(error: &Error, secret: &str) {
    let all = format!("{error} {error:?}");
    assert!(!all.contains(secret), "{all}");
}

#[tokio::test]
async fn a_token_lists_watches_and_registers() {
    let Some(consul) = protected().await else { return };
    let secret = token(&consul, "worker", WORKER).await;
    let folder = std::env::temp_dir().join(format!("fleetward-token-{}", std::process::id()));
    std::fs::write(&folder, format!("{secret}\n")).unwrap();
    for config in
        [config(&consul).with_token(secret.clone()), config(&consul).with_token_file(&folder)]
    {
        let registry = connect(config).await;
        let mut watch = Watch::open(&registry, "a").await;
        let mut lease = register(&registry, 0).await.lease;
        watch.full_of(1).await;
        renewed(&registry, &mut lease).await;
        registry.deregister(lease).await.unwrap();
    }
    // A token that was renewed in its file is taken without a restart.
    std::fs::write(&folder, "00000000-0000-4000-8000-00000000dead").unwrap();
    let registry = connect(config(&consul).with_token_file(&folder)).await;
    assert!(registry.list(&service("a")).await.is_err());
    std::fs::write(&folder, &secret).unwrap();
    assert!(registry.list(&service("a")).await.is_ok());
    std::fs::remove_file(&folder).unwrap();
}

#[tokio::test]
async fn pitfall_403_is_typed_says_what_to_do_and_keeps_the_set() {
    let Some(consul) = protected().await else { return };
    let secret = token(&consul, "worker", WORKER).await;
    let registry = connect(config(&consul).with_token(secret.clone())).await;
    let refused = registry.register(&service("b"), &instance(0), TTL).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert!(refused.to_string().contains("service:write"), "{refused}");
    assert!(!refused.is_permanent(), "an operator may grant it");

    let _lease = register(&registry, 0).await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 10 * SECOND).await;
    // The token is deleted: the next answer is 403.
    let own = consul.get("/v1/acl/tokens").await;
    let own: serde_json::Value = serde_json::from_str(&own).unwrap();
    let of_worker = |token: &&serde_json::Value| token["Policies"][0]["Name"] == "worker";
    let accessor = own.as_array().unwrap().iter().find(of_worker).unwrap()["AccessorID"].clone();
    let path = format!("/v1/acl/token/{}", accessor.as_str().unwrap());
    let deleted = consul.try_request("DELETE", &path, "").await.unwrap();
    assert_eq!(deleted.0, 200);
    put_plain(&consul, "a", "wake", "10.0.0.9").await;
    let denied = |error: Option<&Error>| {
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let stale = timeout(5 * SECOND, watch.wait_for(|now| denied(now.freshness.error()))).await;
    let stale = stale.unwrap_or_else(|_| panic!("{:?}", watch.current())).unwrap();
    assert!(!stale.instances.is_empty(), "the last known good set is kept");
    let error = registry.list(&service("a")).await.unwrap_err();
    for error in [refused, error] {
        assert_clean(&error, &secret);
    }
    assert!(!format!("{registry:?}").contains(&secret));
}

#[tokio::test]
async fn pitfall_a_filtered_empty_list_is_a_refusal_and_keeps_the_set() {
    let one = format!("[{}]", entry("1", "10.0.0.1"));
    let filtered = Say::health("6", "[]").with("X-Consul-Results-Filtered-By-ACLs: true");
    let server = Scripted::start([Say::health("5", &one)], filtered).await;
    let registry = connect(server.config()).await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 10 * SECOND).await;
    let stale = timeout(5 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
    let stale = stale.unwrap().unwrap();
    assert_eq!(stale.instances.len(), 1);
    assert_eq!(stale.freshness.error().unwrap().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn without_a_token_the_list_is_empty_and_a_registration_is_refused() {
    // Consul 1.8 does not say that it has filtered.
    let Some(consul) = protected().await else { return };
    put_plain(&consul, "a", "1", "10.0.0.1").await;
    let registry = registry(&consul).await;
    assert!(list(&registry, "a").await.is_empty());
    let error = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[tokio::test]
async fn pitfall_the_token_is_in_a_header_and_never_in_the_url() {
    let server = Scripted::start([], Say::health("5", "[]")).await;
    let registry = connect(server.config().with_token("canary-5d1e")).await;
    registry.list(&service("a")).await.unwrap();
    assert_eq!(server.paths(), ["/v1/health/service/a?passing=1"]);
    assert!(server.heads().contains("canary-5d1e"), "as a header");
    // Namespaces and partitions are Enterprise: they are sent only when set.
    let config = server.config().with_namespace("n").with_partition("p");
    connect(config).await.list(&service("a")).await.unwrap();
    assert!(server.paths()[1].ends_with("&ns=n&partition=p"), "{:?}", server.paths());
}

#[tokio::test]
async fn pitfall_one_consistency_at_a_time() {
    use fleetward_consul::Consistency::{Consistent, Default, Stale};
    let Some(consul) = Consul::start_or_skip().await else { return };
    put_plain(&consul, "a", "1", "10.0.0.1").await;
    for mode in [Default, Stale, Consistent] {
        let registry = connect(config(&consul).with_consistency(mode)).await;
        assert_eq!(list(&registry, "a").await.len(), 1, "{mode:?}");
    }
    let registry = connect(config(&consul).with_datacenter("nowhere")).await;
    assert!(registry.list(&service("a")).await.is_err());
    let registry = connect(config(&consul).with_datacenter("dc1")).await;
    assert_eq!(list(&registry, "a").await.len(), 1);
}
