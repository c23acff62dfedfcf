//! A change of the set: what one instance that comes, goes or gets another weight costs its client.

mod of_go;
mod ours;
#[cfg(feature = "peers")]
pub(crate) mod peers;
mod storm;
mod subject;

use std::collections::BTreeMap;

use self::of_go::OfGo;
use self::ours::{Ours, ROUND_ROBIN};
use self::subject::{Change, Sample, Subject};
use crate::error::Result;
use crate::go::{self, Go};
use crate::measure::{Effort, Figure, figure, short};
use crate::rows::Row;
use crate::section::{Axis, Beside, Line, Plot, Section, Table, Target};

const INTRO: &str = "\
One instance in the middle of the list changes. Ours: the registry's watch says so, the reflector makes a new \
snapshot, the endpointer a new set, the balancer prepares it, and a caller that waits for it sees it. The time \
is from the registry's word to that moment; all of it runs on one thread, so the memory of the old set is given \
back before the caller wakes, and CPU and bytes are those of the whole chain.

The peers get less to do: no watch is read and no instance parsed. pingora is told to `update` as soon as the list \
has changed (its users do that by a clock) and copies the list, as its own discovery does. tower is told the \
change itself, and its one owner polls it. go-kit's Instancer publishes a new list; the time is until `Endpoints` \
gives it. grpc-go's resolver does so; a new connection is ready at once. The CPU of the peers in Go is that of \
their process; their collector runs before each change, outside of the figures.

All of them change in turn, round by round; figures are medians, a ratio is that of the medians.";

pub(crate) const ROW: Row = Row { name: "change", title: "A change of the set", run };

/// pingora bears 50,000 and not 100,000.
const SIZES: [u32; 5] = [100, 1_000, 10_000, 50_000, 100_000];

fn run(effort: &Effort) -> Result<Section> {
    let sizes = if effort.brief { &SIZES[..1] } else { &SIZES[..] };
    let go = Go::start()?;
    let mut found = Found::default();
    for &size in sizes {
        eprintln!("   {size} instances");
        found.measure(size, subjects(size, go.as_ref())?, if effort.brief { 2 } else { 15 })?;
    }
    Ok(Section {
        intro: INTRO.to_owned(),
        tables: vec![found.table(sizes), storm::table(effort)?],
        plots: vec![found.plot(sizes)],
        targets: found.targets(),
        beside: found.beside(sizes),
        skipped: skipped(go.is_some()),
        versions: go.map(|go| go.versions()).transpose()?.into_iter().collect(),
        ..Section::default()
    })
}

fn subjects(size: u32, go: Option<&Go>) -> Result<Vec<Box<dyn Subject>>> {
    let mut all: Vec<Box<dyn Subject>> = Vec::new();
    for ours in Ours::all(size)? {
        all.push(Box::new(ours));
    }
    #[cfg(feature = "peers")]
    all.extend(peers::all(size)?);
    for of_go in go.into_iter().flat_map(|go| OfGo::all(go, size)) {
        all.push(Box::new(of_go));
    }
    Ok(all)
}

fn skipped(go: bool) -> Vec<String> {
    let mut skipped = vec![
        "weights of tower, go-kit and grpc-go's round robin: they know of none".to_owned(),
        "pingora with 100,000 (it panics above 65,535) and grpc-go with more than 1,000 (it makes its picker anew \
         for each connection that becomes ready, so it takes minutes to come up)"
            .to_owned(),
    ];
    if !cfg!(feature = "peers") {
        skipped.push("pingora and tower: built without them".to_owned());
    }
    if !go {
        skipped.push(go::MISSING.to_owned());
    }
    skipped
}

/// Medians: microseconds, microseconds of CPU, KiB.
struct Cost {
    visible: Figure,
    cpu: f64,
    kib: f64,
}

impl Cost {
    fn of(samples: &[Sample]) -> Self {
        let over = |value: fn(&Sample) -> f64| figure("", samples.iter().map(value).collect());
        Self {
            visible: over(|sample| sample.visible.as_secs_f64() * 1e6),
            cpu: over(|sample| sample.cpu.as_secs_f64() * 1e6).median,
            kib: over(|sample| sample.bytes as f64 / 1024.0).median,
        }
    }
}

#[derive(Default)]
struct Found {
    /// And of those of ours that do the same.
    names: Vec<(&'static str, Option<&'static str>)>,
    /// By size, name and change.
    costs: BTreeMap<(u32, &'static str, &'static str), Cost>,
}

impl Found {
    fn measure(
        &mut self,
        size: u32,
        mut subjects: Vec<Box<dyn Subject>>,
        rounds: u32,
    ) -> Result<()> {
        if self.names.is_empty() {
            self.names = subjects.iter().map(|s| (s.name(), s.beside())).collect();
        }
        let mut samples: BTreeMap<_, Vec<Sample>> = BTreeMap::new();
        for round in 0..rounds {
            for change in Change::ALL {
                for turn in 0..subjects.len() {
                    let at = (round as usize + turn) % subjects.len();
                    // Ours rest too: nobody finds warm caches.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    let name = subjects[at].name();
                    if let Some(sample) = subjects[at].change(change, round)? {
                        samples.entry((size, name, change.name())).or_default().push(sample);
                    }
                }
            }
        }
        self.costs.extend(samples.into_iter().map(|(key, samples)| (key, Cost::of(&samples))));
        Ok(())
    }

    fn table(&self, sizes: &[u32]) -> Table {
        let mut table = Table::new(
            "One instance of n changes",
            [
                "n",
                "change",
                "client",
                "until it can be picked, µs",
                "x ours",
                "CPU, µs",
                "x ours",
                "allocated, KiB",
                "x ours",
            ],
        );
        for &size in sizes {
            for change in Change::ALL.map(Change::name) {
                for &(name, beside) in &self.names {
                    let Some(cost) = self.costs.get(&(size, name, change)) else { continue };
                    let ours = beside.and_then(|ours| self.costs.get(&(size, ours, change)));
                    let times = |value: fn(&Cost) -> f64| {
                        ours.map_or(String::new(), |o| {
                            format!("{}x", short(value(cost) / value(o)))
                        })
                    };
                    table.push([
                        size.to_string(),
                        change.to_owned(),
                        name.to_owned(),
                        cost.visible.with_spread(),
                        times(|cost| cost.visible.median),
                        short(cost.cpu),
                        times(|cost| cost.cpu),
                        short(cost.kib),
                        times(|cost| cost.kib),
                    ]);
                }
            }
        }
        table
    }

    fn plot(&self, sizes: &[u32]) -> Plot {
        let added = Change::Added.name();
        let line = |&(name, _): &(&'static str, _)| {
            let cost = |&n: &u32| self.costs.get(&(n, name, added)).map(|c| (n, c));
            let points = sizes.iter().filter_map(cost);
            Line {
                name: name.replace('`', ""),
                points: points.map(|(n, cost)| (f64::from(n), cost.visible.median)).collect(),
            }
        };
        Plot {
            name: "change".to_owned(),
            title: "One instance more, until it can be picked".to_owned(),
            x: Axis::logarithmic("instances"),
            y: Axis::logarithmic("µs"),
            lines: self.names.iter().map(line).collect(),
        }
    }

    fn targets(&self) -> Vec<Target> {
        let of = |change: Change| {
            let cost = self.costs.get(&(100_000, ROUND_ROBIN, change.name()))?;
            let what = format!("one of 100,000 {} until it can be picked", change.name());
            Some(Target::at_most(&what, 1.0, cost.visible.median / 1e3, "ms"))
        };
        Change::ALL.into_iter().filter_map(of).collect()
    }

    /// One added, at the largest size that a peer bears.
    fn beside(&self, sizes: &[u32]) -> Vec<Beside> {
        let line = |&(name, beside): &(&'static str, Option<&'static str>)| {
            let (ours, added) = (beside?, Change::Added.name());
            let bears = |n: &u32| self.costs.contains_key(&(*n, name, added));
            let n = *sizes.iter().rfind(|n| bears(n))?;
            let of = |name| Some(self.costs.get(&(n, name, added))?.visible.median);
            let what = format!("one of {n} added, until it can be picked");
            Some(Beside::new(&what, (ours, of(ours)?), (name, of(name)?), "µs"))
        };
        self.names.iter().filter_map(line).collect()
    }
}
