//! Through the core's reflector and keeper, as a user has it.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_core::discovery::{Reflector, ReflectorConfig};
use fleetward_core::registration::{Keeper, Registrar};
use fleetward_core::{Instancer, RegisterOptions, Registration, Subscription};
use fleetward_etcd::EtcdRegistry;
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Etcd;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

fn follow(registry: &EtcdRegistry) -> Subscription {
    let source = Arc::new(registry.clone());
    let config = ReflectorConfig::default();
    Reflector::spawn(source, service("a"), config).unwrap().subscribe()
}

async fn keep(registry: &EtcdRegistry, n: u32, ttl: Duration) -> Registration {
    let keeper = Keeper::new(Arc::new(registry.clone()));
    let options = RegisterOptions::default().with_ttl(ttl);
    keeper.register(&service("a"), instance(n), options).await.expect("it is registered")
}

/// Waits until that many instances are known, freshly; says how long it took.
async fn converged(watch: &mut Subscription, count: usize, deadline: Duration) -> Duration {
    let begun = Instant::now();
    let condition = watch.wait_for(|now| {
        now.instances.len() == count && !now.freshness.is_pending() && !now.freshness.is_stale()
    });
    let waited = timeout(deadline, condition).await;
    let waited = waited.map(Result::unwrap).map(drop);
    assert!(waited.is_ok(), "not {count} within {deadline:?}: {:?}", watch.current());
    begun.elapsed()
}

#[tokio::test]
async fn registered_seen_within_a_second_deregistered_gone_within_a_second() {
    for etcd in versions().await {
        let (server, client) = (registry(&etcd).await, registry(&etcd).await);
        let mut watch = follow(&client);
        converged(&mut watch, 0, 10 * SECOND).await;
        let registration = keep(&server, 0, TTL).await;
        let seen = converged(&mut watch, 1, 10 * SECOND).await;
        registration.deregister().await.unwrap();
        let gone = converged(&mut watch, 0, 10 * SECOND).await;
        println!("seen after {seen:?}, gone after {gone:?}");
    }
}

#[tokio::test]
async fn a_deleted_key_is_written_again_exactly_once() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let mut watch = follow(&registry);
    let registration = keep(&registry, 0, 3 * SECOND).await;
    converged(&mut watch, 1, 10 * SECOND).await;
    for _ in 0..2 {
        // The client may see both changes as one, and then no moment without the instance.
        let before = field(&etcd, "a/10.0.0.1:80", "CreateRevision").await.expect("it stands");
        etcd.etcdctl(&["del", "a/10.0.0.1:80"]).await;
        let begun = Instant::now();
        let again = || async {
            let now = field(&etcd, "a/10.0.0.1:80", "CreateRevision").await;
            now.is_some_and(|now| now != before)
        };
        eventually("it is written again", 10 * SECOND, again).await;
        println!("again after {:?}", begun.elapsed());
        assert_eq!(field(&etcd, "a/10.0.0.1:80", "Version").await, Some(1), "once");
        assert_eq!((keys(&etcd, "a/").await.len(), leases(&etcd).await), (1, 1));
        converged(&mut watch, 1, 10 * SECOND).await;
    }
    registration.deregister().await.unwrap();
    converged(&mut watch, 0, 10 * SECOND).await;
}

#[tokio::test]
async fn a_restarted_server_changes_nothing_and_a_wiped_one_is_filled_again() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let mut watch = follow(&registry);
        let _registration = keep(&registry, 0, 10 * SECOND).await;
        converged(&mut watch, 1, 10 * SECOND).await;
        let before = watch.current().revision;
        etcd.kill().await;
        sleep(SECOND).await;
        let during = watch.current();
        assert!(during.freshness.is_stale() && during.instances.len() == 1, "{during:?}");
        etcd.start_again().await;
        println!("fresh {:?} after the restart", converged(&mut watch, 1, 5 * SECOND).await);

        etcd.wipe_as_new_cluster().await;
        etcd.start_again().await;
        eventually("it is registered again", 5 * SECOND, || async {
            keys(&etcd, "a/").await.len() == 1
        })
        .await;
        println!("fresh {:?} after the wipe", converged(&mut watch, 1, 5 * SECOND).await);
        assert!(watch.current().revision > before);
    }
}

#[tokio::test]
async fn a_half_open_connection_converges() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let (server, client) = (registry(&etcd).await, registry(&etcd).await);
    let mut watch = follow(&client);
    let registration = keep(&server, 0, 30 * SECOND).await;
    converged(&mut watch, 1, 10 * SECOND).await;
    etcd.pause().await;
    let stale = timeout(8 * SECOND, watch.wait_for(|now| now.freshness.is_stale())).await;
    assert_eq!(stale.expect("the silence is noticed").unwrap().instances.len(), 1);
    etcd.resume();
    println!("converged {:?} after it went on", converged(&mut watch, 1, 2 * SECOND).await);
    registration.deregister().await.unwrap();
    converged(&mut watch, 0, 10 * SECOND).await;
}

#[tokio::test]
async fn a_process_stopped_past_its_ttl_registers_again() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let child = spawn_child(&etcd);
    let registered = |count| {
        let etcd = &etcd;
        eventually("the child's key is as expected", 10 * SECOND, move || async move {
            keys(etcd, "a/").await.len() == count
        })
    };
    registered(1).await;
    signal(&child, "-STOP").await;
    registered(0).await;
    signal(&child, "-CONT").await;
    let begun = Instant::now();
    registered(1).await;
    println!("registered again {:?} after SIGCONT", begun.elapsed());
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    sleep(SECOND).await;
    assert_eq!((keys(&etcd, "a/").await.len(), leases(&etcd).await), (1, 1));
}

/// Not a test of its own: what `spawn_child` runs in another process.
#[tokio::test]
#[ignore = "runs in the child process of another test"]
async fn child() {
    let Ok(endpoint) = std::env::var("FLEETWARD_TEST_CHILD") else { return };
    let registry = connect(fleetward_etcd::EtcdConfig::new([endpoint])).await;
    let _registration = keep(&registry, 0, 2 * SECOND).await;
    std::future::pending::<()>().await;
}

fn spawn_child(etcd: &Etcd) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "whole::child", "--ignored"])
        .env("FLEETWARD_TEST_CHILD", etcd.endpoint())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn signal(child: &Child, signal: &str) {
    let id = child.id().expect("the child runs").to_string();
    assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
}

#[tokio::test]
async fn a_password_is_in_no_log() {
    let password = "canary-9f3e";
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    etcd.etcdctl(&["user", "add", &format!("root:{password}")]).await;
    etcd.etcdctl(&["user", "grant-role", "root", "root"]).await;
    etcd.etcdctl(&["auth", "enable"]).await;
    let log = Log::default();
    let text = log.0.clone();
    tracing::subscriber::set_global_default(log).unwrap();
    for password in [password.to_owned(), format!("{password}-wrong")] {
        let registry = connect(config(&etcd).with_user("root", password)).await;
        let mut watch = follow(&registry);
        let known = timeout(5 * SECOND, watch.wait_for(|now| !now.freshness.is_pending())).await;
        println!("{known:?}");
        tracing::error!("{registry:?} {watch:?}");
    }
    let text = text.lock().unwrap();
    assert!(text.contains("Authenticate") || text.contains("etcd"), "nothing was logged");
    println!("{} bytes of log", text.len());
    assert!(!text.contains("canary"), "{text}");
}

/// Keeps everything that anybody logs at any level.
#[derive(Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        self.write(format_args!("{span:?}"));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        self.write(format_args!("{values:?}"));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.write(format_args!("{event:?}"));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl Log {
    fn write(&self, text: std::fmt::Arguments<'_>) {
        use std::fmt::Write;
        let mut log = self.0.lock().unwrap();
        writeln!(log, "{text}").unwrap();
    }
}
