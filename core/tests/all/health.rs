//! Active health checks over a real endpointer, on paused time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::{EndpointerBuilder, Readiness};
use fleetward_core::health::{HealthCheck, HealthChecked, HealthReporter, Probe, Probing};
use fleetward_core::{DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance};
use tokio::time::{Instant, sleep};

use crate::support::{instance, instances, ready, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

/// Answers what it is told to, and keeps account.
#[derive(Clone, Default)]
struct Oracle {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    ill: Mutex<BTreeSet<String>>,
    hanging: Mutex<BTreeSet<String>>,
    times: Mutex<BTreeMap<String, Vec<Instant>>>,
    running: AtomicUsize,
    most: AtomicUsize,
    takes: Duration,
    through_the_service: bool,
}

impl Oracle {
    fn taking(takes: Duration) -> Self {
        Self { inner: Arc::new(Inner { takes, ..Inner::default() }) }
    }

    fn set(&self, address: &str, well: bool) {
        let mut ill = self.inner.ill.lock().unwrap();
        if well {
            ill.remove(address)
        } else {
            ill.insert(address.to_owned())
        };
    }

    fn hang(&self, address: &str) {
        self.inner.hanging.lock().unwrap().insert(address.to_owned());
    }

    fn times(&self, address: &str) -> Vec<Instant> {
        self.inner.times.lock().unwrap().get(address).cloned().unwrap_or_default()
    }

    /// Lets so many more probes of an instance pass.
    async fn pass(&self, address: &str, probes: usize) {
        let enough = self.times(address).len() + probes;
        while self.times(address).len() < enough {
            sleep(Duration::from_millis(20)).await;
        }
        settle().await;
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Probe<()> for Oracle {
    async fn probe(&self, instance: &Instance, _: &()) -> Result<(), Error> {
        let address = instance.address().to_string();
        let now = Instant::now();
        self.inner.times.lock().unwrap().entry(address.clone()).or_default().push(now);
        let running = self.inner.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.inner.most.fetch_max(running, Ordering::SeqCst);
        let _running = Running(&self.inner.running);
        sleep(self.inner.takes).await;
        if self.inner.hanging.lock().unwrap().contains(&address) {
            std::future::pending::<()>().await;
        }
        if self.inner.ill.lock().unwrap().contains(&address) {
            return Err(Error::new(ErrorKind::Unavailable, "the oracle says no"));
        }
        Ok(())
    }

    fn needs_connection(&self) -> bool {
        self.inner.through_the_service
    }
}

async fn unit(_: Arc<Instance>) -> Result<(), Error> {
    Ok(())
}

fn probing(oracle: &Oracle) -> Probing<Oracle> {
    let check = Probing::new(oracle.clone()).with_initial_spread(Duration::ZERO);
    check.with_interval(Duration::from_secs(1)).with_seed(7)
}

fn never_panicking() -> EndpointerBuilder {
    DefaultEndpointer::builder().panic_threshold(0.0)
}

fn list(addresses: &[&str]) -> Publisher {
    let list = Publisher::new("greeter");
    list.publish(instances(addresses));
    list
}

#[tokio::test(start_paused = true)]
async fn an_instance_falls_ill_and_recovers_after_so_many_probes() {
    let oracle = Oracle::default();
    oracle.set(B, false);
    let list = list(&[A, B]);
    let checked = HealthChecked::new(unit, probing(&oracle));
    let endpointer = DefaultEndpointer::<()>::new(list, checked);
    until_ready(&endpointer, &[A]).await;
    settle().await;
    assert_eq!(oracle.times(B).len(), 1);
    assert_eq!(ready(&endpointer), [instance(A).id().clone()], "the first probe decides");
    oracle.set(B, true);
    oracle.pass(B, 1).await;
    assert_eq!(ready(&endpointer).len(), 1, "one good probe is not enough");
    oracle.pass(B, 1).await;
    assert_eq!(ready(&endpointer).len(), 2);
    oracle.set(A, false);
    oracle.pass(A, 2).await;
    assert_eq!(ready(&endpointer).len(), 2, "two bad probes are not enough");
    oracle.pass(A, 1).await;
    assert_eq!(ready(&endpointer), [instance(B).id().clone()]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_called_before_its_first_verdict() {
    let oracle = Oracle::taking(Duration::from_millis(500));
    oracle.hang(B);
    let list = list(&[A, B]);
    let check = probing(&oracle);
    let endpointer = DefaultEndpointer::<()>::new(list, HealthChecked::new(unit, check));
    sleep(Duration::from_millis(400)).await;
    assert!(ready(&endpointer).is_empty(), "a fresh client does not panic, it waits");
    assert_eq!(endpointer.endpoints().load().ready().not_ready().len(), 2);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(ready(&endpointer), [instance(A).id().clone()]);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(ready(&endpointer), [instance(A).id().clone()], "one that hangs is not well");
}

#[tokio::test(start_paused = true)]
async fn a_bad_one_that_spoke_first_is_not_called_while_others_may_be_well() {
    let (fast, list) = (Oracle::default(), list(&[A]));
    fast.set(A, false);
    for later in [B, C] {
        fast.hang(later);
    }
    let check = probing(&fast);
    let endpointer = DefaultEndpointer::<()>::new(list.clone(), HealthChecked::new(unit, check));
    list.publish(instances(&[A, B, C]));
    sleep(Duration::from_millis(900)).await;
    assert!(ready(&endpointer).is_empty());
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.contains("the oracle says no") && error.contains(A), "{error}");
    // Then those that hang are known to be unhealthy too, and all three are better than none.
    sleep(Duration::from_millis(200)).await;
    assert!(endpointer.endpoints().load().is_panicking());
    assert_eq!(ready(&endpointer).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_reason_is_named_where_nothing_is_ready() {
    let oracle = Oracle::default();
    oracle.hang(A);
    let checked = HealthChecked::new(unit, probing(&oracle));
    let endpointer = never_panicking().build::<(), _, _>(list(&[A]), checked);
    sleep(Duration::from_secs(3)).await;
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.contains("health check: timed out: no answer within 1s"), "{error}");
    assert!(error.contains(A), "{error}");
}

#[tokio::test(start_paused = true)]
async fn however_many_instances_there_are_only_so_many_are_probed_at_once() {
    let oracle = Oracle::taking(Duration::from_millis(5));
    let addresses: Vec<String> =
        (0..2000).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250 + 1)).collect();
    for hanging in addresses.iter().step_by(10) {
        oracle.hang(hanging);
    }
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let check = Probing::new(oracle.clone()).with_max_concurrent(20).with_seed(1);
    let endpointer =
        DefaultEndpointer::<()>::new(list(&addresses), HealthChecked::new(unit, check));
    endpointer.endpoints().wait_for(|set| set.ready().len() == 1800).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(oracle.inner.most.load(Ordering::SeqCst), 20);
    assert!(addresses.iter().all(|address| oracle.times(address).len() >= 3));
    assert_eq!(ready(&endpointer).len(), 1800);
}

fn thousand() -> Vec<String> {
    (0..1000).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250 + 1)).collect()
}

#[tokio::test(start_paused = true)]
async fn where_everything_hangs_calls_wait_for_about_one_timeout() {
    let (oracle, addresses) = (Oracle::default(), thousand());
    addresses.iter().for_each(|address| oracle.hang(address));
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let (check, start) = (probing(&oracle).with_max_concurrent(10), Instant::now());
    let endpointer =
        DefaultEndpointer::<()>::new(list(&addresses), HealthChecked::new(unit, check));
    endpointer.endpoints().wait_for(|set| set.ready().len() > 900).await;
    assert!(endpointer.endpoints().load().is_panicking());
    assert_eq!(start.elapsed().as_millis() / 100, 10, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_some_answer_those_that_wait_for_their_first_probe_stay_pending() {
    let (oracle, addresses) = (Oracle::default(), thousand());
    addresses.iter().skip(5).step_by(2).for_each(|address| oracle.hang(address));
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let check = probing(&oracle).with_max_concurrent(10).with_interval(Duration::from_secs(600));
    let endpointer =
        DefaultEndpointer::<()>::new(list(&addresses), HealthChecked::new(unit, check));
    let hanging = oracle.inner.hanging.lock().unwrap().clone();
    for _ in 0..200 {
        sleep(Duration::from_millis(500)).await;
        let bad = ready(&endpointer).iter().filter(|id| hanging.contains(&id.to_string())).count();
        assert_eq!((bad, endpointer.endpoints().load().is_panicking()), (0, false));
    }
    assert_eq!(ready(&endpointer).len(), 1000 - hanging.len());
}

#[tokio::test(start_paused = true)]
async fn the_probes_of_many_endpoints_spread_over_the_interval_and_repeat_under_a_seed() {
    let addresses = thousand();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (oracle, start) = (Oracle::default(), Instant::now());
        let check = Probing::new(oracle.clone()).with_seed(3).with_max_concurrent(10_000);
        let endpointer =
            DefaultEndpointer::<()>::new(list(&addresses), HealthChecked::new(unit, check));
        sleep(Duration::from_secs(100)).await;
        drop(endpointer);
        let times = oracle.inner.times.lock().unwrap().clone();
        let times = times.into_iter().map(|(address, times)| {
            (address, times.into_iter().map(|at| (at - start).as_millis()).collect::<Vec<_>>())
        });
        runs.push(times.collect::<BTreeMap<_, _>>());
    }
    assert_eq!(runs[0], runs[1]);
    let mut seconds = [0; 100];
    for times in runs[0].values() {
        assert!(times[0] <= 250, "the first one comes soon: {times:?}");
        for pair in times[1..].windows(2) {
            assert!((8_499..=11_501).contains(&(pair[1] - pair[0])), "{times:?}");
        }
        times[1..]
            .iter()
            .filter(|at| **at < 100_000)
            .for_each(|at| seconds[(at / 1000) as usize] += 1);
    }
    // 1000 endpoints each 10 s are 100 a second.
    assert!(seconds[1..].iter().all(|n| (60..150).contains(n)), "{seconds:?}");
}

/// Tells how many of its runs are alive, and behaves by port.
#[derive(Clone, Default)]
struct Odd {
    alive: Arc<AtomicUsize>,
    runs: Arc<AtomicUsize>,
}

#[async_trait]
impl HealthCheck<()> for Odd {
    async fn run(&self, instance: &Instance, (): (), health: HealthReporter) {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let _alive = Running(&self.alive);
        match (instance.address().port(), self.runs.fetch_add(1, Ordering::SeqCst)) {
            (1, 0) => {
                health.healthy();
                sleep(Duration::from_secs(1)).await;
                panic!("a bug in a check, on purpose");
            }
            (2, _) => return,
            (3, _) => return health.healthy(),
            _ => health.healthy(),
        }
        std::future::pending::<()>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_ends_with_its_instance_and_with_the_last_handle() {
    let (odd, list) = (Odd::default(), list(&[A, B]));
    let endpointer =
        DefaultEndpointer::<()>::new(list.clone(), HealthChecked::new(unit, Arc::new(odd.clone())));
    until_ready(&endpointer, &[A, B]).await;
    assert_eq!(odd.alive.load(Ordering::SeqCst), 2);
    list.publish(instances(&[B]));
    until_ready(&endpointer, &[B]).await;
    settle().await;
    assert_eq!(odd.alive.load(Ordering::SeqCst), 1);
    drop(endpointer);
    settle().await;
    assert_eq!(odd.alive.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_or_ends_leaves_no_endpoint_behind() {
    let odd = Odd::default();
    let build = |address: &str| {
        let checked = HealthChecked::new(unit, odd.clone());
        never_panicking().build::<(), _, _>(list(&[address]), checked)
    };
    let endpointer = build("10.0.0.1:1");
    until_ready(&endpointer, &["10.0.0.1:1"]).await;
    until_ready(&endpointer, &[]).await;
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.contains("the health check panicked"), "{error}");
    // It runs again.
    until_ready(&endpointer, &["10.0.0.1:1"]).await;
    let endpointer = build("10.0.0.1:2");
    sleep(Duration::from_secs(1)).await;
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.contains("ended without a word"), "{error}");
    let endpointer = build("10.0.0.1:3");
    until_ready(&endpointer, &["10.0.0.1:3"]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ready(&endpointer).len(), 1, "what it said last stands");
}

/// Hands out the line of each endpoint.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<BTreeMap<String, Readiness>>>,
}

impl Lines {
    fn of(&self, address: &str) -> Readiness {
        self.lines.lock().unwrap()[address].clone()
    }
}

#[async_trait]
impl Factory<()> for Lines {
    async fn make(&self, instance: &Arc<Instance>, readiness: Readiness) -> Result<(), Error> {
        self.lines.lock().unwrap().insert(instance.id().to_string(), readiness);
        Ok(())
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused")
}

#[tokio::test(start_paused = true)]
async fn a_probe_through_the_service_judges_each_connection_anew() {
    let takes = Duration::from_millis(100);
    let inner = Inner { through_the_service: true, takes, ..Inner::default() };
    let (oracle, lines) = (Oracle { inner: Arc::new(inner) }, Lines::default());
    let checked = HealthChecked::new(lines.clone(), probing(&oracle));
    let endpointer = never_panicking().build::<(), _, _>(list(&[A]), checked);
    until_ready(&endpointer, &[A]).await;
    lines.of(A).set_failed(refused());
    sleep(Duration::from_millis(1)).await;
    let probes = oracle.times(A).len();
    oracle.set(A, false);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(oracle.times(A).len(), probes, "no probe without a connection");
    lines.of(A).set_ready();
    sleep(Duration::from_secs(1)).await;
    assert!(ready(&endpointer).is_empty(), "the first probe on the new connection decides");
    assert!(oracle.times(A).len() > probes);
    // Lost and back before anybody looked.
    oracle.set(A, true);
    lines.of(A).set_failed(refused());
    lines.of(A).set_ready();
    until_ready(&endpointer, &[A]).await;
    // What is known of the old connection lets nobody on to the new one.
    lines.of(A).set_failed(refused());
    until_ready(&endpointer, &[]).await;
    lines.of(A).set_ready();
    sleep(takes / 2).await;
    assert!(ready(&endpointer).is_empty());
    sleep(takes).await;
    assert_eq!(ready(&endpointer).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_its_own_keeps_its_verdict_when_the_connection_is_lost() {
    let (oracle, lines) = (Oracle::default(), Lines::default());
    let checked = HealthChecked::new(lines.clone(), probing(&oracle));
    let endpointer = never_panicking().build::<(), _, _>(list(&[A]), checked);
    until_ready(&endpointer, &[A]).await;
    lines.of(A).set_failed(refused());
    until_ready(&endpointer, &[]).await;
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.contains("connection refused"), "{error}");
    oracle.pass(A, 3).await;
    lines.of(A).set_ready();
    settle().await;
    assert_eq!(ready(&endpointer).len(), 1, "at once: its verdict is still good");
}

/// The rule of docs/health.md, part by part: the registry's word to drain, the connection, the
/// check, and the panic that overrules the check alone.
#[tokio::test(start_paused = true)]
async fn the_truth_table_of_who_is_called() {
    const OTHERS: [&str; 3] = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"];
    for row in 0..48 {
        let (panic, draining) = (row % 2 == 1, row / 2 % 2 == 1);
        let (connectivity, checked) = (row / 4 % 3, row / 12);
        let (list, lines) = (Publisher::new("greeter"), Lines::default());
        let subject = instance(A).with_weight(if draining { 0 } else { 1 });
        list.publish(instances(&OTHERS).into_iter().chain([subject]));
        let endpointer = DefaultEndpointer::<()>::new(list, lines.clone());
        endpointer.endpoints().wait_for(|set| set.ready().len() == 4 - usize::from(draining)).await;
        for other in OTHERS {
            let health = lines.of(other).health();
            if panic { health.unhealthy(refused()) } else { health.healthy() }
        }
        match checked {
            0 => {}
            1 => drop(lines.of(A).health()),
            2 => lines.of(A).health().healthy(),
            _ => lines.of(A).health().unhealthy(refused()),
        }
        match connectivity {
            0 => {}
            1 => lines.of(A).set_connecting(),
            _ => lines.of(A).set_failed(refused()),
        }
        sleep(Duration::from_millis(10)).await;
        let well = checked == 0 || checked == 2 || (checked == 3 && panic);
        let expected = !draining && connectivity == 0 && well;
        let called = ready(&endpointer).contains(instance(A).id());
        let row = format!(
            "draining={draining} connectivity={connectivity} checked={checked} panic={panic}"
        );
        assert_eq!(called, expected, "{row}");
        assert_eq!(endpointer.endpoints().load().is_panicking(), panic, "{row}");
        let others = ready(&endpointer).len() - usize::from(called);
        assert_eq!(others, 3, "healthy, or better than nothing: {row}");
    }
}
