//! What the URL says of registering, on every registry that registers.

use std::time::Duration;

use fleetward::{ErrorKind, Instance};

fn me() -> Instance {
    Instance::new("10.0.0.1:80").unwrap()
}

/// The beginning of a URL for each registry that is built in; nothing is dialled.
fn registries() -> Vec<&'static str> {
    let mut urls = vec!["memory://by-url/greeter"];
    if cfg!(feature = "etcd") {
        urls.push("etcd://127.0.0.1:1/greeter");
    }
    if cfg!(feature = "consul") {
        urls.push("consul://127.0.0.1:1/greeter");
    }
    urls
}

#[tokio::test]
async fn every_registry_that_registers_takes_a_time_to_live_and_whether_to_keep_trying() {
    for url in registries() {
        let registry = fleetward::connect(&format!("{url}?ttl=5s&keep_trying")).await.unwrap();
        let options = registry.register_options();
        assert_eq!((options.ttl, options.keep_trying), (Duration::from_secs(5), true), "{url}");
        let registry = fleetward::connect(&format!("{url}?keep_trying=false")).await.unwrap();
        assert_eq!(registry.register_options(), fleetward::RegisterOptions::default(), "{url}");
        // A view is another handle, with the same options.
        let registry = fleetward::connect(&format!("{url}?ttl=2m&only=zone=a")).await.unwrap();
        assert_eq!(registry.register_options().ttl, Duration::from_secs(120), "{url}");
    }
}

#[tokio::test]
async fn a_wrong_time_to_live_is_refused_with_its_bounds() {
    for url in registries() {
        for ttl in ["0s", "999ms", "25h", "10000d"] {
            let error = fleetward::connect(&format!("{url}?ttl={ttl}")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.context("option"), Some("ttl"), "{error}");
            assert!(error.to_string().contains("between 1 second and 1 day"), "{error}");
        }
        for (wrong, part) in
            [("ttl=5", "5s"), ("ttl=", "5s"), ("keep_trying=perhaps", "true or false")]
        {
            let error = fleetward::connect(&format!("{url}?{wrong}")).await.unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    let error = fleetward::connect("static:127.0.0.1:1?ttl=5s").await.unwrap_err();
    assert!(error.to_string().contains("unknown option"), "nobody registers there: {error}");
}

/// A registry that is down at the start: an error, or waited for.
#[cfg(all(unix, any(feature = "etcd", feature = "consul")))]
async fn waited_for(url: &str, start: impl Future<Output = ()>) {
    let error = fleetward::register(url, me()).await.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    let registration = fleetward::register(&format!("{url}?keep_trying&ttl=7s"), me()).await;
    let registration = registration.unwrap();
    assert!(registration.status().is_retrying());
    start.await;
    let mut status = registration.watch_status();
    let registered = status.wait_for(fleetward::registration::Status::is_registered);
    tokio::time::timeout(Duration::from_secs(30), registered).await.unwrap().unwrap();
    std::mem::forget(registration);
}

#[cfg(all(unix, feature = "etcd"))]
#[tokio::test]
async fn an_etcd_that_is_down_is_waited_for_and_told_the_time_to_live() {
    use fleetward_testkit::servers::Etcd;
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    etcd.kill().await;
    let url = format!("etcd://{}/greeter", etcd.endpoint());
    waited_for(&url, etcd.start_again()).await;
    let leases = etcd.etcdctl(&["lease", "list"]).await;
    let lease = leases.lines().last().unwrap();
    let told = etcd.etcdctl(&["lease", "timetolive", lease]).await;
    assert!(told.contains("granted with TTL(7s)"), "{told}");
}

#[cfg(all(unix, feature = "consul"))]
#[tokio::test]
async fn a_consul_that_is_down_is_waited_for() {
    use fleetward_testkit::servers::Consul;
    let Some(consul) = Consul::start_or_skip().await else { return };
    consul.kill().await;
    let url = format!("consul://{}/greeter", consul.addr());
    waited_for(&url, consul.start_again()).await;
    let services = consul.get("/v1/agent/services").await;
    assert!(services.contains("greeter"), "{services}");
}
