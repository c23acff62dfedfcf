//! More queries than an agent allows connections, in one process and in several.
//!
//! The measurements of docs.md, which take minutes:
//! `cargo test -p fleetward-consul --test all -- --ignored --nocapture limit::measure --test-threads 1`

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetward_consul::ConsulConfig;
use fleetward_core::registration::Registry;
use fleetward_core::{
    Instance, Instancer, Metadata, RegisterOptions, RegistryHandle, Subscription,
};
use fleetward_testkit::eventually;
use fleetward_testkit::proxy::FaultProxy;
use fleetward_testkit::servers::Consul;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// What several processes saw of one agent.
#[derive(Debug, Default)]
struct Seen {
    /// The time from a write to the last process that saw it.
    slowest: Duration,
    /// How often a set was marked stale.
    stale: u64,
    /// How often a registration was in trouble, by its own word.
    troubled: u64,
    /// The fewest registrations that passed, once all had.
    fewest: usize,
    /// How long it took until all knew all services.
    ready: Duration,
}

/// A number of processes watch a number of services each and register once, while everything changes.
async fn several(consul: &Consul, processes: usize, services: usize, rounds: usize) -> Seen {
    let begun = Instant::now();
    let mut children: Vec<_> =
        (0..processes).map(|n| Process::start(consul, n, services)).collect();
    for child in &mut children {
        child.line("ready").await;
    }
    let passing = || async {
        let path = "/v1/health/service/registered?passing=1";
        let Ok((200, text)) = consul.try_request("GET", path, "").await else { return None };
        serde_json::from_str::<Vec<serde_json::Value>>(&text).ok().map(|all| all.len())
    };
    let all = || async { passing().await == Some(processes) };
    eventually("all are registered", 60 * SECOND, all).await;
    let mut seen = Seen { ready: begun.elapsed(), fewest: processes, ..Seen::default() };
    let run = async {
        for round in 0..rounds {
            for service in 0..services {
                let body = format!(
                    r#"{{"ID":"s{service}","Name":"s{service}","Address":"10.0.0.1","Port":80,"Meta":{{"round":"{round}","at":"{}"}}}}"#,
                    now().as_millis()
                );
                // The agent may turn us away as well.
                let path = "/v1/agent/service/register";
                while !matches!(consul.try_request("PUT", path, &body).await, Ok((200, _))) {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            for child in &mut children {
                let words = child.line(&format!("round {round} ")).await;
                let numbers: Vec<u64> =
                    words.split(' ').filter_map(|word| word.parse().ok()).collect();
                seen.slowest = seen.slowest.max(Duration::from_millis(numbers[1]));
                child.numbers = (numbers[2], numbers[3]);
            }
        }
    };
    let mut fewest = processes;
    let watch = async {
        loop {
            fewest = fewest.min(passing().await.unwrap_or(fewest));
            sleep(SECOND / 2).await;
        }
    };
    tokio::select! {
        () = run => {}
        () = watch => {}
    }
    seen.fewest = fewest;
    for child in &children {
        seen.stale += child.numbers.0;
        seen.troubled += child.numbers.1;
    }
    println!("{processes} processes of {services}: {seen:?}");
    seen
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

struct Process {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    numbers: (u64, u64),
}

impl Process {
    fn start(consul: &Consul, number: usize, services: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "limit::child", "--ignored", "--nocapture"])
            .env("FLEETWARD_TEST_CHILD", format!("{} {number} {services}", consul.endpoint()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines, numbers: (0, 0) }
    }

    async fn line(&mut self, start: &str) -> String {
        let wanted = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the child runs");
                if let Some(at) = line.find(start) {
                    return line[at..].to_owned();
                }
            }
        };
        timeout(120 * SECOND, wanted).await.unwrap_or_else(|_| panic!("no {start:?}"))
    }
}

/// Not a test of its own: what others run in other processes.
#[tokio::test]
#[ignore = "runs in the child process of another test"]
async fn child() {
    let Ok(text) = std::env::var("FLEETWARD_TEST_CHILD") else { return };
    let words: Vec<&str> = text.split(' ').collect();
    let [agent, number, services] = words[..] else { return };
    let registry = connect(ConsulConfig::new([agent])).await;
    let registry = RegistryHandle::new(registry);
    let instance = Instance::new(format!("10.1.0.{number}:80")).unwrap();
    let services: usize = services.parse().unwrap();
    let watches: Vec<_> =
        (0..services).map(|n| registry.service(format!("s{n}").as_str()).unwrap()).collect();
    let (mut fresh, mut seen, mut round) = (HashSet::new(), HashSet::new(), 0_u64);
    let (mut stale, mut slowest, mut troubled, mut well) = (0, 0, 0, true);
    let next = |n: usize, mut watch: Subscription| async move {
        let snapshot = watch.changed().await.unwrap();
        (n, snapshot, watch)
    };
    let all = watches.iter().enumerate().map(|(n, watch)| next(n, watch.subscribe()));
    let mut changes: FuturesUnordered<_> = all.collect();
    // Every other one when its watches are there already.
    if number.ends_with(['1', '3', '5']) {
        sleep(SECOND).await;
    }
    let options = RegisterOptions::default().with_ttl(6 * SECOND).with_keep_trying(true);
    let registration = registry.register_with("registered", instance, options).await.unwrap();
    loop {
        let (n, snapshot, watch) = tokio::select! {
            Some(change) = changes.next() => change,
            () = sleep(SECOND / 10) => {
                let registered = registration.status().is_registered();
                troubled += u64::from(well && !registered && round > 0);
                well = registered;
                continue;
            }
        };
        stale += u64::from(snapshot.freshness.is_stale());
        if !snapshot.freshness.is_pending() && fresh.insert(n) && fresh.len() == services {
            println!("\nready");
        }
        if let Some(one) = snapshot.instances.first() {
            let number = |metadata: &Metadata, key| metadata.get(key).unwrap().parse::<u128>();
            let (of, at) = (number(one.metadata(), "round"), number(one.metadata(), "at"));
            if of == Ok(round.into()) && seen.insert(n) {
                slowest = slowest.max(now().as_millis() - at.unwrap());
            }
        }
        if seen.len() == services {
            println!("\nround {round} {slowest} {stale} {troubled}");
            (seen, slowest, round) = (HashSet::new(), 0, round + 1);
        }
        changes.push(next(n, watch));
    }
}

#[tokio::test]
async fn more_services_than_the_agent_allows_connections() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let seen = several(&consul, 1, 230, 2).await;
    assert_eq!((seen.stale, seen.troubled, seen.fewest), (0, 0, 1));
    assert!(seen.ready <= 40 * SECOND, "{:?}", seen.ready);
    assert!(seen.slowest <= 40 * SECOND, "{:?}", seen.slowest);
}

#[tokio::test]
async fn handles_of_one_agent_share_its_connections() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let proxy = FaultProxy::start(consul.addr()).await;
    let (mut handles, mut watches) = (Vec::new(), Vec::new());
    for n in 0..220 {
        let registry = connect(ConsulConfig::new([proxy.endpoint()])).await;
        let handle = RegistryHandle::new(registry);
        watches.push(handle.service(format!("s{n}").as_str()).unwrap().subscribe());
        handles.push(handle);
    }
    for watch in &mut watches {
        let known = watch.wait_for(|now| !now.freshness.is_pending());
        timeout(60 * SECOND, known).await.expect("all are known").unwrap();
    }
    let instance = Instance::new("10.1.0.9:80").unwrap();
    let registration = handles[7].register("registered", instance).await.unwrap();
    for n in [0, 100, 219] {
        put_plain(&consul, &format!("s{n}"), &format!("s{n}"), "10.0.0.1").await;
        let seen = watches[n].wait_for(|now| now.instances.len() == 1);
        timeout(60 * SECOND, seen).await.expect("it is seen").unwrap();
        // What was closed a moment ago is counted a little longer.
        let bounded = || async { proxy.open_connections() <= 60 + 4 + 2 };
        eventually("the connections are bounded", 10 * SECOND, bounded).await;
    }
    assert!(watches.iter().all(|watch| !watch.current().freshness.is_stale()));
    registration.deregister().await.unwrap();
    drop((handles, watches));
    eventually("all are closed", 10 * SECOND, || async { proxy.open_connections() == 0 }).await;
}

/// Opens connections for ever, and keeps those that it gets.
async fn hoard(agent: SocketAddr) {
    let mut kept = Vec::new();
    loop {
        let connection = TcpStream::connect(agent).await.unwrap();
        if timeout(SECOND / 20, connection.readable()).await.is_err() {
            kept.push(connection);
        }
    }
}

#[tokio::test]
async fn an_agent_that_is_full_keeps_what_it_has() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut watch = follow(&registry);
    let registration = keep(&registry, 0, 3 * SECOND).await;
    converged(&mut watch, 1, 10 * SECOND).await;
    // Another program takes all that is left, and whatever is let go.
    let mut others = JoinSet::new();
    for _ in 0..8 {
        others.spawn(hoard(consul.addr()));
    }
    sleep(2 * SECOND).await;
    let trouble = async {
        tokio::select! {
            now = watch.wait_for(|now| now.freshness.is_stale()) => format!("{now:?}"),
            now = async {
                let mut status = registration.watch_status();
                format!("{:?}", status.wait_for(|now| !now.is_registered()).await)
            } => now,
        }
    };
    if let Ok(trouble) = timeout(9 * SECOND, trouble).await {
        panic!("{trouble}");
    }
    // Connections are not shared with another runtime, which finds no room.
    let config = config(&consul).with_request_timeout(SECOND);
    let register = move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let registry = connect(config).await;
            let (service, instance) = (service("b"), instance(1));
            // In the shortest time that a keeper gives it, and in the longest.
            let short = registry.register(&service, &instance, 3 * SECOND).await;
            let long = registry.register(&service, &instance, 30 * SECOND).await;
            [short.unwrap_err(), long.unwrap_err()]
        })
    };
    for error in tokio::task::spawn_blocking(register).await.unwrap() {
        assert!(error.to_string().contains("http_max_conns_per_client"), "{error}");
    }
    registration.deregister().await.unwrap();
    others.shutdown().await;
    converged(&mut watch, 0, 70 * SECOND).await;
}

#[tokio::test]
async fn processes_that_share_an_address_leave_each_other_room() {
    let limits = "limits { http_max_conns_per_client = 24 }";
    let Some(consul) = Consul::builder().with_hcl(limits).start_or_skip().await else { return };
    let seen = several(&consul, 4, 12, 2).await;
    assert_eq!((seen.troubled, seen.fewest), (0, 4), "no registration is lost");
    assert!(seen.slowest <= 60 * SECOND, "{:?}", seen.slowest);
}

#[tokio::test]
#[ignore = "takes minutes; see docs.md"]
async fn measure_a_thousand_services() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    several(&consul, 1, 1000, 4).await;
}

#[tokio::test]
#[ignore = "takes minutes; see docs.md"]
async fn measure_six_processes_of_sixty() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    several(&consul, 6, 60, 6).await;
}
