//! go-kit's known faults in discovery, each shown to be absent here. Those of registration stand
//! in `keeper` and `registration`.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::discovery::{FixedInstancer, Source};
use fleetward_core::{Error, ErrorKind, Instancer, RegistryHandle};
use fleetward_memory::MemoryRegistry;
use tokio::time::{Instant, sleep, timeout};

use crate::fake_source::{FakeSource, down, entries, entry, greeter, ids, is_fresh, reflect};
use crate::support::{instance, settle};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// PR #898: what changed between the list and the watch was missed.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_898_the_watch_starts_where_the_list_stood() {
    let source = FakeSource::of(&[A]);
    source.set_cursor(42);
    let _reflector = reflect(&source);
    settle().await;
    source.set_cursor(99);
    source.emit(Err(down()));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(source.watched_from(), [42, 99]);
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_898_no_change_is_missed_however_the_list_and_the_watch_interleave() {
    let registry = MemoryRegistry::new();
    let handle = RegistryHandle::new(registry.clone());
    let mut registrations = Vec::new();
    let mut subscription = handle.service("greeter").unwrap().subscribe();
    for port in 1..=50 {
        let at = instance(&format!("10.0.0.1:{port}"));
        registrations.push(handle.register("greeter", at).await.unwrap());
        for _ in 0..port % 4 {
            tokio::task::yield_now().await;
        }
    }
    let all = subscription.wait_for(|snapshot| snapshot.instances.len() == 50);
    timeout(Duration::from_secs(1), all).await.unwrap().unwrap();
}

/// A cancelled or compacted watch left the instancer deaf for ever.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_cancelled_or_compacted_watch_is_not_deaf() {
    let ends: [fn(&FakeSource); 3] = [
        |source| source.end_watch(),
        |source| source.emit(Err(Error::new(ErrorKind::CursorLost, "compacted"))),
        |source| source.emit(Err(Error::new(ErrorKind::Unavailable, "cancelled"))),
    ];
    for end in ends {
        let source = FakeSource::of(&[A, B]);
        let mut subscription = reflect(&source).subscribe();
        subscription.wait_for(is_fresh).await.unwrap();
        // The delete of B happens where no watch sees it.
        source.will_list(entries(&[A]));
        end(&source);
        let missed = subscription.wait_for(|snapshot| ids(snapshot) == [A]);
        timeout(Duration::from_secs(1), missed).await.unwrap().unwrap();
        sleep(Duration::from_secs(1)).await;
        source.put(entry(B, B));
        settle().await;
        assert_eq!(ids(&subscription.current()), [A, B], "and the new watch is heard");
    }
}

/// A duplicate instance ran the factory twice: here it is one instance from the start.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_two_keys_with_one_instance_are_one() {
    let source = FakeSource::of(&[]);
    source.will_list(vec![entry("x/2", A), entry("x/1", A), entry("y", B)]);
    let mut subscription = reflect(&source).subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(ids(&first), [A, B]);
    source.delete("x/1");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ids(&subscription.current()), [A, B], "the other key still stands for it");
    assert_eq!(subscription.current().revision, first.revision);
    source.delete("x/2");
    assert_eq!(ids(&subscription.changed().await.unwrap()), [B]);
}

#[tokio::test(start_paused = true)]
async fn of_two_keys_with_one_instance_the_smaller_one_counts() {
    let source = FakeSource::of(&[]);
    let weighted = |key: &str, weight| {
        fleetward_core::discovery::Entry::new(key, Ok(instance(A).with_weight(weight)))
    };
    source.will_list(vec![weighted("b", 2), weighted("a", 1)]);
    let mut subscription = reflect(&source).subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(first.instances[0].weight(), 1);
    source.put(weighted("b", 3));
    source.delete("a");
    assert_eq!(subscription.changed().await.unwrap().instances[0].weight(), 3);
}

/// One observer that was not read blocked all others.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_subscriber_that_never_reads_blocks_nobody() {
    let source = FakeSource::of(&[]);
    let reflector = reflect(&source);
    let unread: Vec<_> = (0..100).map(|_| reflector.subscribe()).collect();
    let mut reader = reflector.subscribe();
    reader.wait_for(is_fresh).await.unwrap();
    for port in 1..=200 {
        let address = format!("10.0.0.1:{port}");
        source.put(entry(&address, &address));
        let seen = reader.wait_for(|snapshot| snapshot.instances.len() == port);
        timeout(Duration::from_millis(60), seen).await.unwrap().unwrap();
    }
    assert_eq!(unread[0].current().instances.len(), 200, "and it gets the newest when it reads");
}

/// A late subscriber during an outage got an empty set.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_late_subscriber_gets_the_last_known_good_set_at_once() {
    let source = FakeSource::of(&[A, B]);
    let reflector = reflect(&source);
    settle().await;
    source.go_down();
    sleep(Duration::from_secs(300)).await;
    let late = reflector.subscribe().current();
    assert_eq!(ids(&late), [A, B]);
    assert!(late.freshness.is_stale());
}

/// Registering on a client closed the watcher of an instancer on the same client.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_registering_on_a_shared_registry_disturbs_no_watch() {
    let handle = RegistryHandle::new(MemoryRegistry::new());
    let mut subscription = handle.service("greeter").unwrap().subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    for _ in 0..3 {
        let registration = handle.register("greeter", instance(A)).await.unwrap();
        subscription.wait_for(|snapshot| ids(snapshot) == [A]).await.unwrap();
        registration.deregister().await.unwrap();
        subscription.wait_for(|snapshot| snapshot.instances.is_empty()).await.unwrap();
    }
}

/// A prefix of `/svc/foo` also matched `/svc/foobar`.
#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_service_whose_name_begins_alike_is_another_one() {
    let handle = RegistryHandle::new(MemoryRegistry::new());
    let _foobar = handle.register("foobar", instance(A)).await.unwrap();
    let mut subscription = handle.service("foo").unwrap().subscribe();
    let foo = subscription.wait_for(is_fresh).await.unwrap();
    assert!(foo.instances.is_empty());
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_11_registered_is_seen_and_deregistered_is_gone_within_a_second() {
    let handle = RegistryHandle::new(MemoryRegistry::new());
    let mut subscription = handle.service("greeter").unwrap().subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    let start = Instant::now();
    let registration = handle.register("greeter", instance(A)).await.unwrap();
    subscription.wait_for(|snapshot| ids(snapshot) == [A]).await.unwrap();
    registration.deregister().await.unwrap();
    subscription.wait_for(|snapshot| snapshot.instances.is_empty()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_service_is_followed_once_however_many_ask() {
    let source = FakeSource::of(&[A]);
    let handle = RegistryHandle::discovery_only(Shared(source.clone()));
    let clone = handle.clone();
    let all: Vec<_> = (0..50)
        .map(|i| if i % 2 == 0 { &handle } else { &clone }.service("greeter").unwrap())
        .collect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((source.lists(), source.watched_from().len()), (1, 1));
    let subscription = all[0].subscribe();
    drop(all);
    let again = handle.service(greeter()).unwrap();
    settle().await;
    assert_eq!(source.lists(), 1, "a subscription alone keeps it shared");
    drop((subscription, again));
    settle().await;
    assert!(!source.is_watched(), "the handle alone follows nothing");
    let _anew = handle.service("greeter").unwrap();
    settle().await;
    assert_eq!(source.lists(), 2);
}

#[test]
fn a_view_whose_runtime_has_ended_is_not_given_out_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let source = FakeSource::of(&[A]);
    let handle = RegistryHandle::discovery_only(Shared(source.clone()));
    let first = runtime();
    let _kept = first.block_on(async { handle.service("greeter").unwrap() });
    drop(first);
    runtime().block_on(async {
        let mut subscription = handle.service("greeter").unwrap().subscribe();
        let seen = subscription.wait_for(is_fresh);
        let seen = timeout(Duration::from_secs(1), seen).await.expect("a dead view was given out");
        assert_eq!(ids(&seen.unwrap()), [A]);
    });
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_only_reads_says_so_when_asked_to_register() {
    let source = FakeSource::of(&[A]);
    let fixed = FixedInstancer::new("greeter", [instance(A)]);
    let handles =
        [RegistryHandle::discovery_only(Shared(source)), RegistryHandle::fixed(Arc::new(fixed))];
    for handle in &handles {
        let error = handle.register("greeter", instance(B)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("only read; register through"), "{error}");
        assert_eq!(handle.service("a/b").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let set = handles[1].service("anything").unwrap().subscribe().current();
    assert_eq!(ids(&set), [A]);
}

#[derive(Debug)]
struct Shared(Arc<FakeSource>);

impl Source for Shared {
    type Cursor = u64;

    fn list(
        &self,
        service: &fleetward_core::ServiceName,
    ) -> impl Future<Output = Result<fleetward_core::discovery::Listing<u64>, Error>> + Send {
        self.0.list(service)
    }

    fn watch(
        &self,
        service: &fleetward_core::ServiceName,
        from: u64,
    ) -> impl futures::Stream<Item = Result<fleetward_core::discovery::Change<u64>, Error>> + Send
    {
        self.0.watch(service, from)
    }
}
