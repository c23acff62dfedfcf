//! What is told to the outside: events that are bounded and escaped, and metrics by service.

use std::cell::{Cell, RefCell};
use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::time::Duration;

use fleetward_core::discovery::{Entry, FixedInstancer};
use fleetward_core::endpoints::Readiness;
use fleetward_core::model::Tags;
use fleetward_core::{
    DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance, Instancer,
};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::fake_registry::{FakeRegistry, TTL, register};
use crate::fake_source::{FakeSource, entries, entry, is_fresh, reflect, unreadable};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps every event above DEBUG as one line, each thread (so each test) for itself. It is set for
/// the whole process, for tracing caches across threads what is enabled.
struct Log;

impl Log {
    fn start() -> Self {
        // Somebody was first: one is enough.
        let _ = tracing::subscriber::set_global_default(Self);
        LINES.with_borrow_mut(Vec::clear);
        Self
    }

    fn lines(&self, with: &str) -> Vec<String> {
        LINES
            .with_borrow(|lines| lines.iter().filter(|line| line.contains(with)).cloned().collect())
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "fleetward" && *metadata.level() < tracing::Level::DEBUG
    }

    fn event(&self, event: &tracing::Event<'_>) {
        assert!(!PANICS.get(), "a bug in a subscriber, on purpose");
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| lines.push(line.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn joining_leaving_and_staleness_are_told_with_their_fields() {
    let log = Log::start();
    let source = FakeSource::of(&["10.0.0.1:80", "10.0.0.2:80"]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(log.lines("instance joined").len(), 2);
    assert_eq!(log.lines("service=greeter instance=10.0.0.1:80").len(), 1);
    source.delete("10.0.0.1:80");
    subscription.changed().await.unwrap();
    assert_eq!(log.lines("instance left").len(), 1);

    source.go_down();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(log.lines("serving the last known good set").len(), 1, "once an outage");
    assert_eq!(log.lines("connection refused").len(), 2, "{:?}", log.lines(""));
    source.will_list(entries(&["10.0.0.2:80"]));
    subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(log.lines("fresh again").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bad_value_is_told_once_and_escaped() {
    let log = Log::start();
    let source = FakeSource::of(&[]);
    source.will_list(vec![unreadable("evil\n\u{1b}[31m", "no JSON")]);
    let _reflector = reflect(&source);
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        source.put(unreadable("evil\n\u{1b}[31m", "no JSON"));
    }
    source.put(unreadable("evil\n\u{1b}[31m", "no address"));
    sleep(Duration::from_secs(1)).await;
    let lines = log.lines("entry left out");
    assert_eq!(lines.len(), 2, "one for each kind of badness: {lines:?}");
    assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn tags_that_are_left_out_are_told_once() {
    let log = Log::start();
    let cut = |address: &str, weight: u32| {
        let tags = Tags::new((0..Tags::MAX + 7).map(|n| n.to_string()));
        let instance = Instance::new(address).unwrap().with_tags(tags).with_weight(weight);
        Entry::new(address, Ok(instance))
    };
    let source = FakeSource::of(&[]);
    source.will_list(vec![cut("10.0.0.1:80", 1)]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    for weight in 2..10 {
        source.put(cut("10.0.0.1:80", weight));
        subscription.changed().await.unwrap();
    }
    let told = log.lines("tags left out");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("instance=10.0.0.1:80 left_out=7"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_several_entries_claim_is_told_when_it_begins() {
    let log = Log::start();
    let claims = |key: &str, address: &str| {
        Entry::new(key, Ok(Instance::new(address).unwrap().with_id("web\u{202e}").unwrap()))
    };
    let source = FakeSource::of(&[]);
    source.will_list(vec![claims("1", "10.0.0.1:80"), claims("2", "10.0.0.2:80")]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    for _ in 0..5 {
        // One more, at an address that is known.
        source.put(claims("3", "10.0.0.2:80"));
        sleep(Duration::from_secs(1)).await;
        source.delete("3");
        sleep(Duration::from_secs(1)).await;
    }
    let told = log.lines("several entries claim one id");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("10.0.0.1:80") && told[0].contains("10.0.0.2:80"), "{told:?}");
    source.delete("2");
    sleep(Duration::from_secs(1)).await;
    source.put(claims("3", "10.0.0.1:80"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(log.lines("several entries claim one id").len(), 2, "and again");
}

#[tokio::test(start_paused = true)]
async fn failures_that_go_on_are_two_lines_and_not_one_each() {
    let log = Log::start();
    let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80").unwrap()]);
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let endpointer = DefaultEndpointer::<()>::new(list, Lines(send));
    let readiness = lines.recv().await.unwrap();
    let refused = || Error::new(ErrorKind::Unavailable, "connection refused");
    for _ in 0..2 {
        for _ in 0..500 {
            readiness.set_connecting();
            readiness.set_failed(refused());
        }
        readiness.set_connecting();
        readiness.set_ready();
    }
    drop(endpointer);
    let told = log.lines("10.0.0.1:80");
    let what = |told: &[String]| -> Vec<String> {
        told.iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    };
    let expected = ["message=connection", "message=connected"].repeat(2);
    assert_eq!(what(&told), expected, "{told:?}");
    assert!(told[1].contains("failures=500") && told[3].contains("failures=500"), "{told:?}");

    let log = Log::start();
    let runs = std::sync::atomic::AtomicUsize::new(0);
    let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80").unwrap()]);
    let endpointer = DefaultEndpointer::new(list, move |_: Arc<Instance>| {
        let run = runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move { if run < 50 { Err("as it must") } else { Ok(()) } }
    });
    endpointer.endpoints().wait_for(|set| set.ready().len() == 1).await;
    let told = log.lines("10.0.0.1:80");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("factory failed") && told[1].contains("failures=50"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn neither_a_fleet_nor_a_registry_chooses_the_volume_of_the_log() {
    let log = Log::start();
    let at = |n: u32| format!("10.0.{}.{}:80", n >> 8, n & 255);
    let fleet: Vec<_> = (1..=1000).map(|n| Instance::new(at(n)).unwrap()).collect();
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let endpointer =
        DefaultEndpointer::<()>::new(FixedInstancer::new("greeter", fleet), Lines(send));
    let mut all = Vec::new();
    while all.len() < 1000 {
        all.push(lines.recv().await.unwrap());
    }
    for _ in 0..60 {
        for readiness in &all {
            readiness.set_failed(Error::new(ErrorKind::Unavailable, "connection refused"));
            readiness.set_ready();
        }
        sleep(Duration::from_secs(1)).await;
    }
    drop(endpointer);
    let told = log.lines("").len();
    assert!((500..900).contains(&told), "{told} lines in a minute");
    assert_eq!(log.lines("more are left out").len(), 6);
    let left_out: u32 = log
        .lines("lines were left out of the log")
        .iter()
        .map(|line| line.rsplit_once("left_out=").unwrap().1.parse::<u32>().unwrap())
        .sum();
    assert!(left_out > 90_000, "{left_out}");

    let log = Log::start();
    let source = FakeSource::of(&[]);
    reflect(&source).subscribe().wait_for(is_fresh).await.unwrap();
    let _reflector = reflect(&source);
    sleep(Duration::from_secs(1)).await;
    for n in 0..6000 {
        // Values that are unreadable in ever new ways, instances that come and go, ids that clash.
        source.put(Entry::new("a", Err(Error::invalid_data(format!("in way {n}")))));
        let id = format!("10.0.0.{}:80", n % 2 + 1);
        let clash = Instance::new("10.0.0.1:80").unwrap().with_id(&id).unwrap();
        source.put(Entry::new("b", Ok(clash)));
        source.put(entry("c", "10.0.0.2:80"));
        sleep(Duration::from_millis(5)).await;
        source.delete("c");
        sleep(Duration::from_millis(5)).await;
    }
    let told = log.lines("").len();
    assert!((100..900).contains(&told), "{told} lines in a minute");
}

#[tokio::test(start_paused = true)]
async fn many_changes_at_once_are_one_event() {
    let log = Log::start();
    let source = FakeSource::of(&[]);
    let addresses = (1..=1000).map(|port| format!("10.0.0.1:{port}"));
    source.will_list(addresses.map(|address| entry(&address, &address)).collect());
    reflect(&source).subscribe().wait_for(is_fresh).await.unwrap();
    assert_eq!(log.lines("").len(), 1, "{:?}", log.lines(""));
    assert_eq!(log.lines("joined=1000 left=0").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_registrations_life_is_told() {
    let log = Log::start();
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    registry.lose();
    sleep(TTL).await;
    registration.deregister().await.unwrap();
    let told = log.lines("service=greeter instance=10.0.0.1:80");
    let what: Vec<_> = told.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let expected =
        ["message=registered", "message=lease", "message=registered", "message=deregistered"];
    assert_eq!(what, expected, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn only_changes_of_health_are_told() {
    let log = Log::start();
    let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80").unwrap()]);
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let endpointer = DefaultEndpointer::<()>::new(list, Lines(send));
    let readiness = lines.recv().await.unwrap();
    let health = readiness.health();
    let ill = || Error::new(ErrorKind::Unavailable, "status\n503");
    for _ in 0..3 {
        health.unhealthy(ill());
    }
    health.healthy();
    health.healthy();
    health.pending();
    health.healthy();
    health.unsupported(Error::new(ErrorKind::Unsupported, "what is health?"));
    drop(endpointer);
    readiness.removed().await;
    health.unhealthy(ill());
    let told = log.lines("service=\"greeter\" instance=10.0.0.1:80");
    let what: Vec<_> = told.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(
        what,
        ["message=unhealthy", "message=healthy", "message=healthy", "message=health"],
        "{told:?}"
    );
    assert!(told[0].contains("error=unavailable: status\\n503"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_stops_nothing() {
    let _log = Log::start();
    PANICS.set(true);
    let source = FakeSource::of(&["10.0.0.1:80", "10.0.0.2:80"]);
    let reflector = reflect(&source);
    let endpointer =
        DefaultEndpointer::new(reflector.clone(), |_: Arc<Instance>| async { Ok::<_, Error>(()) });
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    endpointer.endpoints().wait_for(|set| set.ready().len() == 2).await;
    source.will_list(entries(&["10.0.0.1:80"]));
    source.delete("10.0.0.2:80");
    registry.lose();
    endpointer
        .endpoints()
        .wait_for(|set| set.ready().len() == 1 && !set.freshness().is_stale())
        .await;
    source.go_down();
    endpointer.endpoints().wait_for(|set| set.freshness().is_stale()).await;
    sleep(TTL).await;
    assert!(registry.is_held() && registration.status().is_registered());
    registration.deregister().await.unwrap();
    PANICS.set(false);
}

struct Lines(tokio::sync::mpsc::UnboundedSender<Readiness>);

#[async_trait::async_trait]
impl Factory<()> for Lines {
    async fn make(&self, _: &Arc<Instance>, readiness: Readiness) -> Result<(), Error> {
        let _ = self.0.send(readiness);
        Ok(())
    }
}

#[cfg(feature = "metrics")]
mod metrics {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use ::metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder,
        SharedString, Unit,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Values(Arc<Mutex<BTreeMap<String, f64>>>);

    struct Value(Values, String);

    impl Value {
        fn change(&self, change: impl Fn(f64) -> f64) {
            let mut values = self.0.0.lock().unwrap();
            let value = values.entry(self.1.clone()).or_default();
            *value = change(*value);
        }
    }

    impl CounterFn for Value {
        fn increment(&self, by: u64) {
            self.change(|old| old + by as f64);
        }
        fn absolute(&self, value: u64) {
            self.change(|_| value as f64);
        }
    }

    impl GaugeFn for Value {
        fn increment(&self, by: f64) {
            self.change(|old| old + by);
        }
        fn decrement(&self, by: f64) {
            self.change(|old| old - by);
        }
        fn set(&self, value: f64) {
            self.change(|_| value);
        }
    }

    impl Values {
        fn named(&self, key: &Key) -> Arc<Value> {
            let labels: Vec<_> =
                key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
            Arc::new(Value(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }

        fn get(&self, name: &str) -> f64 {
            let values = self.0.lock().unwrap();
            let key = format!("fleetward_{name}{{service=greeter}}");
            *values.get(&key).unwrap_or_else(|| panic!("no {key} in {values:?}"))
        }
    }

    impl Recorder for Values {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.named(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.named(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_metrics_follow_the_set_and_its_staleness() {
        let values = Values::default();
        let _recorder = ::metrics::set_default_local_recorder(&values);
        let source = FakeSource::of(&["10.0.0.1:80", "10.0.0.2:80"]);
        let mut subscription = reflect(&source).subscribe();
        subscription.wait_for(is_fresh).await.unwrap();
        assert_eq!(values.get("instances"), 2.0);
        assert_eq!(values.get("instances_joined_total"), 2.0);
        assert_eq!(values.get("stale"), 0.0);
        source.put(unreadable("10.0.0.1:80", "no JSON"));
        source.delete("10.0.0.2:80");
        subscription.wait_for(|snapshot| snapshot.instances.len() == 1).await.unwrap();
        assert_eq!(values.get("entries_skipped"), 1.0);
        assert_eq!(values.get("instances_left_total"), 1.0);
        source.go_down();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(values.get("stale"), 1.0);
        assert!(values.get("stale_seconds") > 580.0, "the staleness rises");
        assert!(values.get("discovery_failures_total") > 60.0);
        source.will_list(entries(&["10.0.0.1:80"]));
        subscription.wait_for(is_fresh).await.unwrap();
        assert_eq!((values.get("stale"), values.get("stale_seconds")), (0.0, 0.0));
    }
}
