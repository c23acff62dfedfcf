//! A whole call: what is left of all that is spared per pick when a real call is made.

pub(crate) mod clients;
pub(crate) mod echo;
mod load;
pub(crate) mod servers;

use std::net::SocketAddr;
use std::time::Duration;

use self::clients::{BALANCE_CHANNEL, CHANNELS, Client, EVERYTHING, FLOOR, ROUND_ROBIN};
use self::load::{Load, Sample};
use self::servers::EchoProcess;
use crate::error::Result;
use crate::measure::{Effort, Figure, figure, short};
use crate::rows::Row;
use crate::section::{Axis, Beside, Line, Plot, Section, Table, Target};

const INTRO: &str = "\
Unary echoes over loopback to three servers, each in a process of its own with one thread; the client is a \
process with tokio's default threads. All contenders are connected all the time and take turns, round by \
round. CPU is that of the client process, kernel included, for each call; a ratio is taken within each round, \
and the median of these is shown with the quartiles. The floor is hyper's HTTP/2 sender under tonic's codec: \
no balancing, no deadline, no retry, no word on how calls went.";

pub(crate) const ROW: Row = Row { name: "call", title: "A whole call", run };

fn run(effort: &Effort) -> Result<Section> {
    let servers = EchoProcess::start_all(3)?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&addresses, effort))
}

async fn measure(servers: &[SocketAddr], effort: &Effort) -> Result<Section> {
    let clients = clients::all(servers).await?;
    let mut section = Section { intro: INTRO.to_owned(), ..Section::default() };
    let (payloads, in_flight): (&[usize], &[usize]) = match effort.brief {
        true => (&[128], &[64]),
        false => (&[128, 64 * 1024], &[1, 16, 64, 256]),
    };
    let mut by_load = Vec::new();
    for &payload in payloads {
        for &in_flight in in_flight {
            let time = Duration::from_millis(if effort.brief { 20 } else { 400 });
            let load = Load { in_flight, payload, time, calls: None };
            let results = rounds(&clients, load, if effort.brief { 1 } else { 11 }).await?;
            let table = table(load, &results);
            let is_usual = (payload, in_flight) == (128, 64);
            section.tables.push(if is_usual { table } else { table.folded() });
            if is_usual {
                section.targets.extend(targets(&results));
                section.beside.extend(beside(&results));
            }
            if payload == 128 {
                by_load.push((in_flight, results));
            }
        }
    }
    section.plots.push(plot(&by_load));
    Ok(section)
}

/// Puts one client under load, and says how it went.
pub(crate) fn one(name: &str, seconds: u64, in_flight: usize, calls: Option<usize>) -> Result<()> {
    let servers = EchoProcess::start_all(3)?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clients = clients::all(&addresses).await?;
        let client = clients.iter().find(|client| client.name.contains(name));
        let client = client.ok_or("there is no such client")?;
        let time = Duration::from_secs(seconds);
        let load = Load { in_flight, payload: 128, time, calls };
        println!("{}: {:?}", client.name, client.run(load).await?);
        Ok(())
    })
}

/// The samples of one contender, round by round.
struct Results {
    name: &'static str,
    samples: Vec<Sample>,
}

impl Results {
    fn of(&self, value: impl Fn(&Sample) -> f64) -> Figure {
        figure(self.name, self.samples.iter().map(value).collect())
    }

    /// CPU of this contender over that of another one, in the same round.
    fn cpu_over(&self, other: &Self) -> Figure {
        let pairs = self.samples.iter().zip(&other.samples);
        figure(self.name, pairs.map(|(ours, theirs)| ours.cpu / theirs.cpu).collect())
    }
}

async fn rounds(clients: &[Client], load: Load, rounds: usize) -> Result<Vec<Results>> {
    let mut all: Vec<Results> =
        clients.iter().map(|c| Results { name: c.name, samples: Vec::new() }).collect();
    for client in clients {
        client.run(Load { time: load.time / 4, ..load }).await?;
    }
    for round in 0..rounds {
        for turn in 0..clients.len() {
            let i = (round + turn) % clients.len();
            all[i].samples.push(clients[i].run(load).await?);
        }
    }
    Ok(all)
}

fn find<'a>(results: &'a [Results], name: &str) -> Option<&'a Results> {
    results.iter().find(|results| results.name == name)
}

fn table(load: Load, results: &[Results]) -> Table {
    let size = if load.payload < 1024 {
        format!("{} B", load.payload)
    } else {
        format!("{} KiB", load.payload / 1024)
    };
    let mut table = Table::new(
        &format!("{} in flight, {size} each way", load.in_flight),
        [
            "client",
            "CPU a call, µs",
            "of `balance_channel`",
            "of the floor",
            "calls/s",
            "p50, µs",
            "p99, µs",
            "p99.9, µs",
        ],
    );
    for result in results {
        let over = |name| {
            find(results, name).map_or_else(String::new, |it| result.cpu_over(it).with_spread())
        };
        table.push([
            result.name.to_owned(),
            result.of(|sample| sample.cpu).with_spread(),
            over(BALANCE_CHANNEL),
            over(FLOOR),
            short(result.of(|sample| sample.calls_per_second).median),
            short(result.of(|sample| sample.p50).median),
            short(result.of(|sample| sample.p99).median),
            short(result.of(|sample| sample.p999).median),
        ]);
    }
    table
}

/// Of all but the one that is compared with.
fn plot(by_load: &[(usize, Vec<Results>)]) -> Plot {
    let names = by_load.first().into_iter().flat_map(|(_, results)| results).map(|r| r.name);
    let line = |name: &str| {
        let ratio = |(in_flight, results): &(usize, Vec<Results>)| {
            let over = find(results, name)?.cpu_over(find(results, BALANCE_CHANNEL)?);
            Some((*in_flight as f64, over.median))
        };
        let points = by_load.iter().filter_map(ratio).collect();
        Line { name: name.replace('`', ""), points }
    };
    Plot {
        name: "call".to_owned(),
        title: "Client CPU of a call, 128 B each way, over that of tonic's balance_channel"
            .to_owned(),
        x: Axis::logarithmic("calls in flight"),
        y: Axis::linear("x"),
        lines: names.filter(|name| *name != BALANCE_CHANNEL).map(line).collect(),
    }
}

fn beside(results: &[Results]) -> Vec<Beside> {
    let peers = [
        (ROUND_ROBIN, BALANCE_CHANNEL),
        (ROUND_ROBIN, CHANNELS),
        (ROUND_ROBIN, FLOOR),
        (EVERYTHING, BALANCE_CHANNEL),
        (EVERYTHING, FLOOR),
    ];
    let line = |(ours, peer)| {
        let (ours, peer) = (find(results, ours)?, find(results, peer)?);
        let cpu = |results: &Results| results.of(|sample| sample.cpu).median;
        let what = "client CPU of a whole call, 64 in flight, 128 B";
        let beside = Beside::new(what, (ours.name, cpu(ours)), (peer.name, cpu(peer)), "µs");
        // That of the rounds, as in the table, and not that of the medians.
        Some(Beside { ratio: peer.cpu_over(ours).median, ..beside })
    };
    peers.into_iter().filter_map(line).collect()
}

fn targets(results: &[Results]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (ours, theirs, goal) in [
        (EVERYTHING, BALANCE_CHANNEL, 0.85),
        (EVERYTHING, FLOOR, 1.05),
        (ROUND_ROBIN, BALANCE_CHANNEL, 0.85),
        (ROUND_ROBIN, FLOOR, 1.05),
    ] {
        if let Some((ours, theirs)) = find(results, ours).zip(find(results, theirs)) {
            let what = format!("client CPU of a whole call, {}, over {}", ours.name, theirs.name);
            targets.push(Target::at_most(&what, goal, ours.cpu_over(theirs).median, "x"));
        }
    }
    targets
}
