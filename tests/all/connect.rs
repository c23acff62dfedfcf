//! `connect(url)` as a user meets it: what works, and what the obvious mistakes say.

use std::time::Duration;

use fleetward::{ErrorKind, Instance, Instancer};

async fn refused(url: &str) -> fleetward::Error {
    match fleetward::connect(url).await {
        Ok(_) => panic!("{url} was accepted"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_url_is_the_short_form_of_discovering_and_registering() {
    let url = "memory://short-form/greeter";
    let registration = fleetward::register(url, Instance::new("10.0.0.1:80").unwrap()).await;
    let registration = registration.unwrap();
    let mut view = fleetward::discover(url).await.unwrap().subscribe();
    view.wait_for(|set| set.instances.len() == 1).await.unwrap();
    registration.deregister().await.unwrap();
    view.wait_for(|set| set.instances.is_empty()).await.unwrap();
}

#[tokio::test]
async fn one_handle_serves_many_services_each_watched_once() {
    let registry = fleetward::connect("memory://many").await.unwrap();
    for name in ["a", "b"] {
        let instance = Instance::new("10.0.0.1:80").unwrap().with_id(name).unwrap();
        std::mem::forget(registry.register(name, instance).await.unwrap());
    }
    for name in ["a", "b", "a"] {
        let mut view = registry.service(name).unwrap().subscribe();
        let wait = view.wait_for(|set| set.instances.len() == 1);
        let set = tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
        assert_eq!(set.instances[0].id().as_str(), name);
    }
    assert_eq!(registry.service("a/b").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn who_connects_to_the_same_url_shares_one_watch() {
    let url = "memory://shared-watch/greeter";
    let _registered = fleetward::register(url, Instance::new("10.0.0.1:80").unwrap()).await;
    let mut view = fleetward::discover(url).await.unwrap().subscribe();
    let one = view.wait_for(|set| set.instances.len() == 1).await.unwrap();
    // Only the subscription is left of the first; the second meets it all the same, and sees the
    // very same snapshot at once.
    let two = fleetward::discover(url).await.unwrap().subscribe().current();
    assert!(std::sync::Arc::ptr_eq(&one, &two));
    drop(view);
    tokio::task::yield_now().await;
    let later = fleetward::discover(url).await.unwrap().subscribe().current();
    assert!(later.freshness.is_pending(), "nobody was left, so a new watch begins");
}

#[tokio::test]
async fn a_fixed_list_answers_for_every_service_and_takes_no_registration() {
    let registry = fleetward::connect("static:127.0.0.1:3000,127.0.0.1:3001").await.unwrap();
    for name in ["greeter", "other"] {
        let set = registry.service(name).unwrap().subscribe().current();
        assert_eq!(set.instances.len(), 2);
        assert!(!set.freshness.is_stale());
    }
    let refused = registry.register("greeter", Instance::new("10.0.0.1:80").unwrap()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    let named = fleetward::connect("static://127.0.0.1:3000,[::1]:3001/greeter").await.unwrap();
    assert_eq!(named.default_service().unwrap().as_str(), "greeter");
}

#[tokio::test]
async fn wrong_urls_say_what_is_wrong_and_what_there_is() {
    for (url, expected) in [
        ("127.0.0.1:2379", "scheme:"),
        ("zookeeper://h:1/s", "there are: memory:, static:, consul:, consuls:, etcd:, etcds:"),
        (
            "memory:greeter?codec=plain",
            "known options are: balancer, client_id, client_index, empty_set, keep_trying, only, prefer, subset, ttl (option=no. 1 of 1",
        ),
        ("memory:greeter?empty_set=often", "hold, honour"),
        ("memory:greeter?empty_set=1s&empty_set=2s", "given twice"),
        ("memory://a,b/greeter", "memory://name/service"),
        ("memory:gre%20eter", "letters, digits"),
        ("static:", "the list is empty"),
        ("static:127.0.0.1", "the port is missing"),
        ("static:127.0.0.1:80?weight=1", "known options are: balancer, client_id, client_index"),
    ] {
        let error = refused(url).await;
        assert!(error.to_string().contains(expected), "{url}: {error}");
        assert!(error.is_permanent(), "{url}");
    }
    let error = fleetward::discover("memory:").await.unwrap_err();
    assert!(error.to_string().contains("names no service"), "{error}");
}

#[tokio::test]
async fn no_error_repeats_a_secret() {
    for url in [
        "zookeeper://root:canary@h:1/s",
        "memory://root:canary@h/s?token=canary",
        "static://root:canary@10.0.0.1:0/s",
        "etcd://root:canary@h:1/s?unknown=canary",
        "etcd://root:can/ary@h:1/s",
        "consul://root:canary@h:1/s",
        "consul://192.0.2.1:8500/s?token=canary",
        "consul://127.0.0.1:8500/s?unknown=canary",
    ] {
        let error = refused(url).await;
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("ary@"), "{shown}");
    }
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn etcds_mistakes_are_named_at_connect() {
    for (url, expected) in [
        ("etcd:///greeter", "host"),
        ("etcd://127.0.0.1:2379/greeter?codecc=plain", "codec,"),
        ("etcd://127.0.0.1:2379/greeter?codec=xml", "plain"),
        ("etcds://127.0.0.1:2379/greeter?ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("etcd://root:pw@192.0.2.1:2379/greeter", "dangerous_plaintext_credentials"),
    ] {
        let error = refused(url).await;
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
}

#[cfg(feature = "consul")]
#[tokio::test]
async fn consuls_mistakes_are_named_at_connect() {
    for (url, expected) in [
        ("consul://127.0.0.1:8500/greeter?tags=a", "tag,"),
        ("consul://127.0.0.1:8500/pre%20fix/greeter", "a character that a path may not have"),
        ("consul://token@127.0.0.1:8500/greeter", "password"),
        ("consul://127.0.0.1:8500/greeter?token_file=/nowhere/token", "/nowhere/token"),
        ("consuls://127.0.0.1:8501/greeter?ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("consul://192.0.2.1:8500/greeter?token=x", "dangerous_plaintext_credentials"),
    ] {
        let error = refused(url).await;
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn an_etcd_that_is_down_keeps_no_program_from_starting() {
    // Port 1 on loopback: nobody listens.
    let url = "etcd://127.0.0.1:1/greeter?connect_timeout=500ms&request_timeout=1s";
    let registry = fleetward::connect(url).await.unwrap();
    let error = registry.register("greeter", Instance::new("10.0.0.1:80").unwrap()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(!error.is_permanent());
    let mut view = registry.service("greeter").unwrap().subscribe();
    let told = view.wait_for(|set| set.freshness.error().is_some());
    let set = tokio::time::timeout(Duration::from_secs(5), told).await.unwrap().unwrap();
    assert!(set.freshness.is_pending(), "nothing is known, and why not is said: {set:?}");
}

#[tokio::test]
async fn a_url_names_the_balancer_and_code_wins_over_it() {
    use fleetward::balancers::Random;
    use fleetward::grpc::{Channel, Connect};
    let url = "static://127.0.0.1:1/greeter?balancer=round_robin";
    let channel = Channel::builder(url).connect().await.unwrap();
    assert!(format!("{channel:?}").contains("RoundRobin"), "{channel:?}");
    let channel = Channel::builder(url).balancer(Random::new()).connect().await.unwrap();
    assert!(format!("{channel:?}").contains("Random"), "{channel:?}");
    let error = refused("static:127.0.0.1:1?balancer=best").await.to_string();
    assert!(error.contains("best") && error.contains("round_robin"), "{error}");
    let error = refused("memory:greeter?balancer=ring_hash?header=user&min=4096").await.to_string();
    assert!(error.contains("option=no. 2 of 2") && error.contains("joined by %26"), "{error}");
    let error = refused("memory:greeter?balancer=split?share=0.5&version=v2").await.to_string();
    assert!(error.contains("joined by %26"), "{error}");
    // The hint is there only where it is true.
    for other in [
        "balancer=round_robin?sped=1",
        "balancer=round_robin?sped=1&x=1",
        "balancer=ring_hash?header=user&colour=4096",
        "balancer=ring_hash?header=user&min=0",
        "balancer=p2c&min=4096&only=tag=what?",
        "balancer=ring_hash?header=user%26min=4096&empty_set=never",
        "balancer=best?header=user&min=4096",
    ] {
        let error = refused(&format!("memory:greeter?{other}")).await.to_string();
        assert!(!error.contains("%26"), "{other}: {error}");
    }
    let error = refused("memory:greeter?balancer=round_robin?sped=1").await.to_string();
    assert!(error.contains("balancer=round_robin"), "{error}");
    assert!(error.contains("no. 1 of 1 (4 characters, not shown)"), "{error}");
}

#[cfg(feature = "http")]
#[tokio::test]
async fn an_http_client_opens_by_url_too_and_calls_who_registers() {
    use axum::{Router, routing::get};
    use fleetward::balancers::Random;
    use fleetward::http::{Client, Connect};
    use http_body_util::BodyExt;
    let url = "static://127.0.0.1:1/users?balancer=round_robin";
    let client = Client::builder(url).connect().await.unwrap();
    assert!(format!("{client:?}").contains("RoundRobin"), "{client:?}");
    let client = Client::builder(url).balancer(Random::new()).connect().await.unwrap();
    assert!(format!("{client:?}").contains("Random"), "{client:?}");

    let client = Client::builder("memory://by-url/users").connect().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let me = Instance::new(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async {
        axum::serve(listener, Router::new().route("/", get(|| async { "hello" }))).await
    });
    let _registration = fleetward::register("memory://by-url/users", me).await.unwrap();
    let request = http::Request::get("/").body(String::new()).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

mod own_schemes {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fleetward::discovery::FixedInstancer;
    use fleetward::registry::{Registries, RegistryUrl};
    use fleetward::{Error, Instance, Instancer, RegistryHandle};

    /// A fixed list in the URL: its hosts, or its path.
    fn list(mut url: RegistryUrl) -> Result<RegistryHandle, Error> {
        url.options().finish()?;
        let hosts: Vec<_> = match url.hosts() {
            [] => url.path().split('+').map(str::to_owned).collect(),
            hosts => hosts.to_vec(),
        };
        let instances = hosts.iter().map(|host| Instance::new(host.as_str()));
        let instances = instances.collect::<Result<Vec<_>, _>>()?;
        Ok(RegistryHandle::fixed(Arc::new(FixedInstancer::new("list", instances))))
    }

    fn table() -> (Registries, Arc<AtomicUsize>) {
        let opened = Arc::new(AtomicUsize::new(0));
        let counted = opened.clone();
        let registries = Registries::new().with_scheme("List", move |url| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { list(url) }
        });
        (registries, opened)
    }

    #[tokio::test]
    async fn they_are_opened_once_and_with_the_options_that_every_registry_has() {
        let (registries, opened) = table();
        let url = "list://10.0.0.1:80,10.0.0.2:80/shop?subset=1&ttl=5s&balancer=random";
        let one = registries.discover(url).await.unwrap();
        assert_eq!(one.subscribe().current().instances.len(), 1, "a subset");
        let again = registries.clone().connect(url).await.unwrap();
        assert_eq!(opened.load(Ordering::SeqCst), 1);
        drop((one, again));
        registries.connect(url).await.unwrap();
        assert_eq!(opened.load(Ordering::SeqCst), 2, "nobody used it any more");
    }

    #[tokio::test]
    async fn without_hosts_the_path_is_the_scheme_s_own() {
        let handle = table().0.connect("list:10.0.0.1:80+10.0.0.2:80").await.unwrap();
        let shop = handle.service("shop").unwrap();
        assert_eq!(shop.subscribe().current().instances.len(), 2);
    }

    #[tokio::test]
    async fn errors_name_them_and_what_they_refuse() {
        let (registries, _) = table();
        let error = registries.connect("lists:a").await.unwrap_err().to_string();
        assert!(error.contains("etcds:, list:"), "{error}");
        let error = registries.connect("list://10.0.0.1:80/shop?color=red").await.unwrap_err();
        assert!(error.to_string().contains("unknown option"), "{error}");
        let error = fleetward::connect("list:10.0.0.1:80").await.unwrap_err().to_string();
        assert!(error.contains("unknown registry"), "no table is global: {error}");
    }

    #[tokio::test]
    async fn a_built_in_scheme_can_be_replaced_in_one_table() {
        let registries = Registries::new().with_scheme("memory", |url| async { list(url) });
        let url = "memory://10.0.0.1:80/replaced";
        let view = registries.discover(url).await.unwrap();
        assert_eq!(view.subscribe().current().instances.len(), 1);
        let built_in = fleetward::discover("memory:replaced").await.unwrap();
        assert!(built_in.subscribe().current().instances.is_empty());
    }

    #[cfg(feature = "grpc")]
    #[tokio::test]
    async fn a_channel_is_made_of_them() {
        use fleetward::grpc::{Channel, Connect};
        let (registries, opened) = table();
        let url = "list://127.0.0.1:1/shop?balancer=round_robin";
        let channel = Channel::builder(url).registries(&registries).connect().await.unwrap();
        assert_eq!(opened.load(Ordering::SeqCst), 1);
        assert!(format!("{channel:?}").contains("RoundRobin"), "{channel:?}");
        Channel::builder(url).connect().await.unwrap_err();
        Channel::builder(registries.at(url)).connect().await.unwrap();
    }

    #[cfg(feature = "grpc")]
    #[tokio::test]
    async fn a_balancer_of_one_s_own_is_chosen_by_a_url_of_its_table() {
        use fleetward::balancers::{Balancers, P2c};
        use fleetward::grpc::{Channel, Connect};
        let balancers = Balancers::new().with_balancer("nearest", |_| Ok(P2c::new()));
        let registries = Registries::new().with_balancers(balancers);
        let url = "static:127.0.0.1:1?balancer=slow_start?window=60s%26balancer=nearest";
        let channel = Channel::builder(url).registries(&registries).connect().await.unwrap();
        assert!(format!("{channel:?}").contains("P2c"), "{channel:?}");
        let error = fleetward::connect(url).await.unwrap_err().to_string();
        assert!(error.contains("unknown balancer"), "no table is global: {error}");
        let error = registries.connect("static:127.0.0.1:1?balancer=nearst").await.unwrap_err();
        assert!(error.to_string().contains("known ones are: nearest, least_request"), "{error}");
    }
}
