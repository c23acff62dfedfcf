//! Agents that are down, hang, or lose what they knew.

use std::process::Stdio;

use fleetward_consul::ConsulConfig;
use fleetward_core::ErrorKind;
use fleetward_core::discovery::Source;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::lossy::Lossy;
use crate::scripted::{Say, Scripted, entry};
use crate::support::*;

#[tokio::test]
async fn an_agent_that_lost_everything_is_registered_at_again_within_a_heartbeat() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut watch = follow(&registry);
    let ttl = 3 * SECOND;
    let registration = keep(&registry, 0, ttl).await;
    converged(&mut watch, 1, 10 * SECOND).await;
    for _ in 0..2 {
        consul.kill().await;
        let stale = timeout(5 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
        assert_eq!(stale.expect("it is noticed").unwrap().instances.len(), 1);
        consul.start_again().await;
        let begun = Instant::now();
        let here = || async { services(&consul).await == ["a:10.0.0.1:80"] };
        eventually("it is registered again", ttl / 3 + SECOND, here).await;
        println!("registered again {:?} after the restart", begun.elapsed());
        converged(&mut watch, 1, 5 * SECOND).await;
        assert_eq!(watch.current().instances.len(), 1);
    }
    let known = || async { registration.status().is_registered() };
    eventually("the registration knows it", 5 * SECOND, known).await;
}

#[tokio::test]
async fn an_agent_that_keeps_its_data_changes_nothing() {
    let Some(consul) = Consul::builder().with_data().start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut watch = follow(&registry);
    let _registration = keep(&registry, 0, 10 * SECOND).await;
    converged(&mut watch, 1, 10 * SECOND).await;
    consul.stop().await;
    consul.start_again().await;
    println!("fresh {:?} after the restart", converged(&mut watch, 1, 10 * SECOND).await);
    assert_eq!(services(&consul).await, ["a:10.0.0.1:80"]);
    consul.wipe().await;
    consul.start_again().await;
    let here = || async { services(&consul).await == ["a:10.0.0.1:80"] };
    eventually("it is registered again", 5 * SECOND, here).await;
    println!("fresh {:?} after the wipe", converged(&mut watch, 1, 10 * SECOND).await);
}

#[tokio::test]
async fn a_service_or_a_check_that_was_removed_is_registered_again() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut lease = register(&registry, 0).await.lease;
    consul.put("/v1/agent/check/deregister/service:a:10.0.0.1:80", "").await;
    let kept = renewed(&registry, &mut lease).await;
    assert!(matches!(kept, KeptAlive::Lost { .. }), "pitfall: the older 500, or 404: {kept:?}");
    let mut lease = register(&registry, 0).await.lease;
    remove(&consul, "a:10.0.0.1:80").await;
    let kept = renewed(&registry, &mut lease).await;
    assert!(matches!(kept, KeptAlive::Lost { .. }), "{kept:?}");
    let mut lease = register(&registry, 0).await.lease;
    assert!(matches!(renewed(&registry, &mut lease).await, KeptAlive::Alive { .. }));
}

#[tokio::test]
async fn pitfall_heartbeat_404_and_the_older_500_mean_lost() {
    for (status, text) in [
        (404, "Unknown check ID \"service:a:10.0.0.1:80\". Ensure that the check ID is passed."),
        (500, "CheckID \"service:a:10.0.0.1:80\" does not have associated TTL"),
    ] {
        // The agent knows the service, so what tells is the heartbeat.
        let ok = |body: &str| Say::Answer(200, Vec::new(), body.to_owned());
        let refusal = Say::Answer(status, Vec::new(), text.to_owned());
        let script = [Say::nobody(), ok(""), Say::Stands, refusal];
        let server = Scripted::start(script, Say::Silence).await;
        let registry = connect(server.config()).await;
        let mut lease = register(&registry, 0).await.lease;
        let kept = renewed(&registry, &mut lease).await;
        assert!(matches!(kept, KeptAlive::Lost { .. }), "{kept:?}");
        let paths = server.paths();
        assert!(paths[1].ends_with("service/register"), "{paths:?}");
        assert_eq!(paths[3], "/v1/agent/check/pass/service:a:10.0.0.1:80");
    }
}

#[tokio::test]
async fn a_silent_agent_is_noticed() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    put_plain(&consul, "a", "1", "10.0.0.1").await;
    let mut direct = Watch::open(&registry, "a").await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 10 * SECOND).await;
    sleep(SECOND / 2).await;
    consul.pause().await;
    let paused = Instant::now();
    let error = direct.error(9 * SECOND).await;
    println!("{:?}: {error}", paused.elapsed());
    assert!(paused.elapsed() <= SECOND * 15 / 2, "{:?}", paused.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let stale = timeout(5 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
    assert_eq!(stale.unwrap().unwrap().instances.len(), 1);
    consul.resume();
    println!("fresh {:?} after it went on", converged(&mut watch, 1, 8 * SECOND).await);
}

#[tokio::test]
async fn a_quiet_agent_is_not_taken_for_a_silent_one() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = connect(config(&consul).with_silence(SECOND)).await;
    let mut watch = Watch::open(&registry, "a").await;
    sleep(5 * SECOND).await;
    put_plain(&consul, "a", "1", "10.0.0.1").await;
    watch.full_of(1).await;
}

#[tokio::test]
async fn whoever_takes_a_connection_is_not_silent() {
    let busy = "Your IP is issuing too many concurrent connections, please rate limit your calls";
    for (knock, alive) in [
        (Say::Hangup, true),
        (Say::Half, true),
        (Say::Answer(429, Vec::new(), busy.into()), true),
        (Say::Answer(500, Vec::new(), String::new()), true),
        (Say::Silence, false),
    ] {
        let server = Scripted::start([Say::health("5", "[]")], Say::Silence).await;
        server.say_to_knocks(knock.clone());
        let registry = connect(server.config().with_silence(SECOND)).await;
        let mut watch = follow(&registry);
        converged(&mut watch, 0, 5 * SECOND).await;
        let stale = timeout(6 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
        assert_eq!(stale.is_err(), alive, "{knock:?}: {:?}", watch.current());
    }
}

#[tokio::test]
async fn every_call_has_a_deadline() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = connect(config(&consul).with_request_timeout(SECOND / 2)).await;
    let mut leased = register(&registry, 0).await;
    consul.pause().await;
    sleep(SECOND / 10).await;
    let begun = Instant::now();
    let (list, register, renewal) = (
        registry.list(&service("a")).await.unwrap_err(),
        registry.register(&service("a"), &instance(1), TTL).await.unwrap_err(),
        registry.keep_alive(&mut leased.lease).await.unwrap_err(),
    );
    let gone = registry.deregister(leased.lease).await.unwrap_err();
    for error in [list, register, renewal, gone] {
        assert!(error.context("service").is_some(), "{error}");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    consul.resume();
    assert!(registry.list(&service("a")).await.is_ok());
}

#[tokio::test]
async fn a_consul_that_is_down_is_not_hammered() {
    // Nobody listens: the CPU that go-kit burnt here (#627) would be seen.
    let registry = connect(ConsulConfig::new(["127.0.0.1:1"])).await;
    let mut watch = follow(&registry);
    let before = cpu();
    sleep(3 * SECOND).await;
    let used = cpu() - before;
    println!("{used} ticks of CPU in 3 s");
    assert!(used <= 20, "{used} ticks of 10 ms");
    let pending = watch.current();
    assert!(pending.freshness.is_pending() && pending.freshness.error().is_some(), "{pending:?}");
    let _ = &mut watch;
}

/// This process's CPU time, in ticks of 10 ms.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

#[tokio::test]
async fn pitfall_no_known_leader_and_empty_evicts_nobody() {
    let one = format!("[{}]", entry("1", "10.0.0.1"));
    let leaderless = Say::health("6", "[]").with("X-Consul-KnownLeader: false");
    let server = Scripted::start([Say::health("5", &one)], leaderless).await;
    let registry = connect(server.config()).await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 10 * SECOND).await;
    let stale = timeout(5 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
    assert_eq!(stale.unwrap().unwrap().instances.len(), 1);
    let error = registry.list(&service("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_process_stopped_past_its_ttl_passes_again() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child", "--ignored"])
        .env("FLEETWARD_TEST_CHILD", consul.endpoint())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let passing = |count| {
        let registry = &registry;
        eventually("the child passes or not", 10 * SECOND, move || async move {
            list(registry, "a").await.len() == count
        })
    };
    passing(1).await;
    signal(&child, "-STOP").await;
    passing(0).await;
    signal(&child, "-CONT").await;
    let begun = Instant::now();
    passing(1).await;
    println!("passing {:?} after SIGCONT", begun.elapsed());
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(services(&consul).await, ["a:10.0.0.1:80"]);
}

/// Not a test of its own: what another test runs in another process.
#[tokio::test]
#[ignore = "runs in the child process of another test"]
async fn child() {
    let Ok(agent) = std::env::var("FLEETWARD_TEST_CHILD") else { return };
    let registry = connect(ConsulConfig::new([agent])).await;
    let _registration = keep(&registry, 0, 2 * SECOND).await;
    std::future::pending::<()>().await;
}

async fn signal(child: &Child, signal: &str) {
    let id = child.id().expect("the child runs").to_string();
    assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
}

#[tokio::test]
async fn an_attempt_that_arrives_late_is_no_stranger() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let lossy = Lossy::start(&consul).await;
    let registry = connect(ConsulConfig::new([lossy.endpoint()])).await;
    lossy.lose_answers(true);
    let error = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    lossy.lose_answers(false);
    assert_eq!(services(&consul).await, ["a:10.0.0.1:80"], "it was registered after all");
    let stood = consul.get("/v1/agent/service/a:10.0.0.1:80").await;
    let mut lease = register(&registry, 0).await.lease;
    // As if it had arrived after the second one.
    let mut late: serde_json::Value = serde_json::from_str(&stood).unwrap();
    late["Name"] = "a".into();
    for field in ["Service", "ContentHash", "Datacenter", "TaggedAddresses"] {
        late.as_object_mut().unwrap().remove(field);
    }
    put(&consul, &late.to_string()).await;
    let kept = renewed(&registry, &mut lease).await;
    assert!(matches!(kept, KeptAlive::Lost { .. }), "{kept:?}");
    registry.deregister(lease).await.unwrap();
    assert!(services(&consul).await.is_empty());
}

/// A proxy in front of an agent that is gone takes each connection and hangs up, as an agent does that has too many.
#[tokio::test]
async fn an_agent_of_which_only_hang_ups_are_left_is_noticed() {
    let closing = |say: Say| say.with("Connection: close");
    let entry = format!("[{}]", entry("1", "10.0.0.1"));
    // The list, and an answer to the first query that is held back: the next one needs a new connection.
    let script = [closing(Say::health("5", &entry)), closing(Say::health("5", &entry))];
    let server = Scripted::start(script, Say::Hangup).await;
    let registry = connect(server.config().with_silence(SECOND)).await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 5 * SECOND).await;
    server.say_to_knocks(Say::Hangup);
    let stale = timeout(12 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
    let stale = stale.expect("it is taken for an agent that is full").unwrap();
    assert_eq!(stale.instances.len(), 1);
    assert!(format!("{:?}", stale.freshness).contains("http_max_conns_per_client"), "{stale:?}");
}
