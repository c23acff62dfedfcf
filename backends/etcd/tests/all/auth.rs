//! Users, passwords and tokens.

use std::time::Duration;

use fleetward_core::discovery::Source;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_core::{Error, ErrorKind};
use fleetward_etcd::{EtcdConfig, EtcdRegistry};
use fleetward_testkit::servers::{Etcd, EtcdBuilder, EtcdVersion};
use tokio::time::sleep;

use crate::support::*;

const PASSWORD: &str = "canary-71c2";

/// etcd with a root, and a user `worker` who may do everything below `a/`.
async fn protected(version: EtcdVersion, token_ttl: Duration) -> Option<Etcd> {
    protect(Etcd::builder().with_version(version).with_auth_token_ttl(token_ttl)).await
}

async fn protect(builder: EtcdBuilder) -> Option<Etcd> {
    let etcd = builder.start_or_skip().await?;
    for user in ["root", "worker"] {
        etcd.etcdctl(&["user", "add", &format!("{user}:{PASSWORD}")]).await;
        etcd.etcdctl(&["role", "add", user]).await;
        etcd.etcdctl(&["user", "grant-role", user, user]).await;
    }
    etcd.etcdctl(&["role", "grant-permission", "worker", "readwrite", "a/", "a0"]).await;
    etcd.etcdctl(&["auth", "enable"]).await;
    Some(etcd)
}

async fn worker(etcd: &Etcd) -> EtcdRegistry {
    connect(config(etcd).with_user("worker", PASSWORD)).await
}

async fn as_root(etcd: &Etcd, args: &[&str]) {
    let root = format!("root:{PASSWORD}");
    etcd.etcdctl(&[&["--user", &root], args].concat()).await;
}

async fn put_as_root(etcd: &Etcd, key: &str, value: &str) {
    as_root(etcd, &["put", key, value]).await;
}

/// How many logins there were so far, etcdctl's included.
async fn logins(etcd: &Etcd) -> f64 {
    let labels =
        r#"{grpc_method="Authenticate",grpc_service="etcdserverpb.Auth",grpc_type="unary"}"#;
    metric(etcd, &format!("grpc_server_started_total{labels}")).await
}

fn assert_clean(error: &Error) {
    let all = format!("{error} {error:?}");
    assert!(!all.contains(PASSWORD), "{all}");
}

#[tokio::test]
async fn a_user_lists_watches_and_registers() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let Some(etcd) = protected(version, 60 * SECOND).await else { return };
        let registry = worker(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        let mut leased = register(&registry, 0).await;
        assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
        renewed(&registry, &mut leased.lease).await;
        registry.deregister(leased.lease).await.unwrap();
    }
}

#[tokio::test]
async fn pitfall_auth_token_expiry_misses_no_event() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let Some(etcd) = protected(version, SECOND).await else { return };
        let registry = worker(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        let ttl = 60 * SECOND;
        let leased = registry.register(&service("a"), &instance(0), ttl).await;
        let mut leased = leased.expect("it is registered");
        assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
        for n in 2..4 {
            // The token is not used in the meantime, so it runs out.
            sleep(3 * SECOND).await;
            let address = format!("10.0.0.{n}:80");
            put_as_root(&etcd, &format!("a/{address}"), &value(&address)).await;
            assert_eq!(watch.change().await, Seen::Put(address));
            let kept = renewed(&registry, &mut leased.lease).await;
            assert!(
                matches!(kept, fleetward_core::registration::KeptAlive::Alive { .. }),
                "{kept:?}"
            );
        }
        sleep(3 * SECOND).await;
        let (found, cursor) = ids(&registry, "a").await;
        assert_eq!(found.len(), 3);
        Watch::open(&registry, "a", cursor).await;
    }
}

#[tokio::test]
async fn pitfall_refusal_in_the_stream_of_an_expired_token() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let Some(etcd) = protected(version, SECOND).await else { return };
        let registry = worker(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        sleep(3 * SECOND).await;
        // "permission denied" for a user who has it: the token is no longer known.
        let mut first = Watch::begin(&registry, "a", cursor);
        match first.next(SECOND).await {
            Err(error) => println!("{error}"),
            Ok(_) => println!("the stream was accepted"),
        }
        Watch::open(&registry, "a", cursor).await;
    }
}

#[tokio::test]
async fn pitfall_refusal_in_the_stream_for_want_of_a_permission() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let Some(etcd) = protected(version, 60 * SECOND).await else { return };
        let registry = worker(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let list = registry.list(&service("secret")).await.unwrap_err();
        let watch = Watch::begin(&registry, "secret", cursor).error(SECOND).await;
        let register = registry.register(&service("secret"), &instance(0), TTL).await.unwrap_err();
        for error in [list, watch, register] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("prefix"), "it says what to do: {error}");
            assert!(!error.is_permanent(), "an operator may grant it");
            assert_clean(&error);
        }
    }
}

#[tokio::test]
async fn a_wrong_password_no_password_and_no_user() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let Some(etcd) = protected(version, 60 * SECOND).await else { return };
        for config in [
            config(&etcd).with_user("worker", format!("{PASSWORD}-wrong")),
            config(&etcd).with_user("nobody", PASSWORD),
            config(&etcd),
        ] {
            assert!(!format!("{config:?}").contains(PASSWORD));
            let registry = connect(config).await;
            assert!(!format!("{registry:?}").contains(PASSWORD));
            let error = registry.list(&service("a")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(error.context("endpoint").is_some());
            assert_clean(&error);
        }
    }
}

#[tokio::test]
async fn a_login_for_a_server_that_wants_none_and_then_wants_one() {
    for etcd in versions().await {
        let registry = connect(config(&etcd).with_user("root", PASSWORD)).await;
        assert!(ids(&registry, "a").await.0.is_empty(), "as Go's client, we go on without");
        etcd.etcdctl(&["user", "add", &format!("root:{PASSWORD}")]).await;
        etcd.etcdctl(&["user", "grant-role", "root", "root"]).await;
        etcd.etcdctl(&["auth", "enable"]).await;
        assert!(registry.list(&service("a")).await.is_ok(), "the call has logged in");
        as_root(&etcd, &["auth", "disable"]).await;
        assert!(registry.list(&service("a")).await.is_ok(), "and goes on without again");
    }
}

#[tokio::test]
async fn a_jwt_outlives_every_change_of_users_and_roles() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let builder = Etcd::builder().with_version(version).with_jwt(60 * SECOND);
        let Some(etcd) = protect(builder).await else { return };
        let registry = worker(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        let mut leased = register(&registry, 0).await;
        assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
        for (n, change) in [
            &["user", "add", "somebody:else"][..],
            &["role", "add", "other"],
            &["user", "grant-role", "somebody", "other"],
            &["role", "grant-permission", "other", "read", "x"],
            &["user", "delete", "somebody"],
            &["role", "delete", "other"],
        ]
        .into_iter()
        .enumerate()
        {
            as_root(&etcd, change).await;
            let before = logins(&etcd).await;
            // Each kind of call meets the old token first, once.
            match n % 4 {
                0 => drop(renewed(&registry, &mut leased.lease).await),
                1 => drop(ids(&registry, "a").await),
                2 => drop(Watch::open(&registry, "a", cursor).await),
                _ => drop(register(&registry, 9).await),
            }
            let name = service("a");
            let lists = (0..20).map(|_| registry.list(&name));
            for list in futures::future::join_all(lists).await {
                list.unwrap_or_else(|error| panic!("{change:?}: {error}"));
            }
            let kept = renewed(&registry, &mut leased.lease).await;
            assert!(matches!(kept, KeptAlive::Alive { .. }), "{change:?}: {kept:?}");
            let other = register(&registry, 1).await;
            assert_eq!(logins(&etcd).await - before, 1.0, "{change:?}: one login for all");
            registry.deregister(other.lease).await.unwrap();
        }
        // The watch of before goes on too.
        let mut seen = watch.change().await;
        while seen != Seen::Gone("a/10.0.0.2:80".into()) {
            seen = watch.change().await;
        }
    }
}

#[tokio::test]
async fn many_calls_that_meet_an_old_token_log_in_once() {
    let Some(etcd) = protect(Etcd::builder().with_jwt(60 * SECOND)).await else { return };
    let registry = worker(&etcd).await;
    ids(&registry, "a").await;
    as_root(&etcd, &["user", "add", "somebody:else"]).await;
    let before = logins(&etcd).await;
    let name = service("a");
    for list in futures::future::join_all((0..50).map(|_| registry.list(&name))).await {
        list.unwrap();
    }
    assert_eq!(logins(&etcd).await - before, 1.0);
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_an_error_and_given_back_is_used() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let builder = Etcd::builder().with_version(version).with_jwt(60 * SECOND);
        let Some(etcd) = protect(builder).await else { return };
        let registry = worker(&etcd).await;
        ids(&registry, "a").await;
        as_root(&etcd, &["user", "revoke-role", "worker", "worker"]).await;
        let error = registry.list(&service("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        as_root(&etcd, &["user", "grant-role", "worker", "worker"]).await;
        ids(&registry, "a").await;
        as_root(&etcd, &["user", "delete", "worker"]).await;
        let error = registry.list(&service("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(!error.is_permanent());
        assert_clean(&error);
    }
}

#[tokio::test]
async fn a_password_file_is_read_again_at_each_login() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let Some(etcd) = protected(version, 60 * SECOND).await else { return };
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        let registry = connect(config(&etcd).with_user_from_file("worker", &file)).await;
        assert!(!format!("{registry:?}").contains(PASSWORD));
        ids(&registry, "a").await;
        // As an operator does it: the user is made anew, with another password.
        as_root(&etcd, &["user", "delete", "worker"]).await;
        as_root(&etcd, &["user", "add", &format!("worker:{PASSWORD}-2")]).await;
        as_root(&etcd, &["user", "grant-role", "worker", "worker"]).await;
        let error = registry.list(&service("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert_clean(&error);
        std::fs::remove_file(&file).unwrap();
        let error = registry.list(&service("a")).await.unwrap_err();
        assert_eq!(error.context("option"), Some("password_file"), "{error}");
        assert!(!error.is_permanent(), "it may be just about to be replaced: {error}");
        std::fs::write(&file, format!("{PASSWORD}-2")).unwrap();
        ids(&registry, "a").await;
    }
}

#[tokio::test]
async fn a_password_file_that_is_not_there_is_found_at_once() {
    let config = EtcdConfig::new(["127.0.0.1:1"]).with_user_from_file("root", "/nowhere/password");
    let error = EtcdRegistry::connect(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(error.context("file"), Some("/nowhere/password"), "{error}");
}

#[tokio::test]
async fn a_password_is_in_no_error_of_a_dead_server() {
    let config = EtcdConfig::new(["127.0.0.1:1"]).with_user("root", PASSWORD);
    let error = connect(config).await.list(&service("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_clean(&error);
}
