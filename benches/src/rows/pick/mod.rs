//! A pick: every balancer of ours beside those of others.

mod floor;
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod subject;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::ours::{ALL, Picking, Through};
#[cfg(feature = "peers")]
pub(crate) use self::peers::{Measured, PINGORA_MAX, tower_measured, tower_p2c};
use self::subject::{OfGo, Subject};
use super::Row;
use crate::error::Result;
use crate::go::{self, Go};
use crate::measure::{Effort, Figure, race, short};
use crate::members::{Members, UNHEALTHY, Weights, is_unhealthy};
use crate::noop::Endpoints;
use crate::section::{Axis, Beside, Line, Plot, Section, Table, Target};

pub(crate) const ROW: Row = Row { name: "pick", title: "Pick", run };

const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
const THREADS: [usize; 2] = [1, 2];

/// What was measured where: (threads, unhealthy, size).
type Cell = (usize, usize, usize);

/// By name. One that bears not so many instances or threads is not there.
type Figures = BTreeMap<String, Figure>;

fn run(effort: &Effort) -> Result<Section> {
    // Every cell has about a hundred contenders.
    let effort = Effort { rounds: effort.rounds.div_ceil(2), ..*effort };
    let sizes = if effort.brief { &SIZES[..1] } else { &SIZES[..] };
    let go = Go::start()?;
    let mut names = Vec::new();
    let mut cells: BTreeMap<Cell, Figures> = BTreeMap::new();
    for &size in sizes {
        for unhealthy in UNHEALTHY {
            eprintln!("   {size} instances, {unhealthy} % unhealthy");
            let subjects = subjects(size, unhealthy, go.as_ref())?;
            if names.is_empty() {
                names = subjects.iter().map(|s| Name::of(&**s)).collect();
            }
            let mut contenders = Vec::new();
            let mut ends = Vec::new();
            for threads in THREADS {
                let bearing = subjects.iter().filter(|subject| subject.bears(threads));
                contenders.extend(bearing.map(|subject| subject.contender(threads)));
                ends.push(contenders.len());
            }
            let figures = race(contenders, &effort);
            if let Some(go) = &go {
                go.check()?;
            }
            let mut from = 0;
            for (threads, to) in THREADS.into_iter().zip(ends) {
                let some = figures[from..to].iter().map(|f| (f.name.clone(), f.clone())).collect();
                cells.insert((threads, unhealthy, size), some);
                from = to;
            }
        }
    }
    let found = Found { names, sizes, cells };
    Ok(Section {
        intro: INTRO.to_owned(),
        tables: found.tables(),
        plots: found.plots(),
        targets: found.targets(),
        beside: found.beside(),
        skipped: skipped(go.is_some()),
        versions: go.map(|go| go.versions()).transpose()?.into_iter().collect(),
        ..Section::default()
    })
}

const INTRO: &str = "\
Nanoseconds a pick. A name alone is `Balancer::pick` from a prepared set: which position. `Balanced::pick` is all that \
a call needs: the newest set, the choice, a clone of the service, the call counted in and out again, two readings of \
the clock. A peer's figure is what its users call: pingora's `select` clones the backend, tower's balancer cannot be \
asked without a call to a service that does nothing. In parentheses: how many times as long as ours of the same \
kind takes in the same run.

Unhealthy instances are known to all and picked by none: ours keeps them out of the set, pingora's have their \
flag off, tower's are not ready, volo and Go's get a list without them.

With two threads at once, the figure is wall time divided by the picks of both: half of the figure for one thread is \
twice the throughput. The floor with a counter of the thread's own shows what the machine has to give.";

fn subjects(size: usize, unhealthy: usize, go: Option<&Go>) -> Result<Vec<Box<dyn Subject>>> {
    let mut all: Vec<Box<dyn Subject>> = Vec::new();
    let members = |weights| Members::new(size, unhealthy, weights).map(Arc::new);
    let all_members =
        [members(Weights::Even)?, members(Weights::Zipf)?, members(Weights::OneHeavy)?];
    for ours in ALL {
        all.push(Box::new(Picking::new(ours, all_members[ours.weights as usize].clone())?));
    }
    let endpoints = |weights| Endpoints::new(size, unhealthy, weights);
    let endpoints =
        [endpoints(Weights::Even)?, endpoints(Weights::Zipf)?, endpoints(Weights::OneHeavy)?]
            .map(Arc::new);
    for ours in ALL {
        all.push(Box::new(Through::new(ours, endpoints[ours.weights as usize].clone())?));
    }
    for floor in floor::Floor::all(size) {
        all.push(Box::new(floor));
    }
    #[cfg(feature = "peers")]
    all.extend(peers::all(size, unhealthy)?);
    if let Some(go) = go {
        // Its balancers are told of none that is not ready.
        let size = size - (0..size).filter(|&at| is_unhealthy(at, unhealthy)).count();
        for peer in go::PICKS.iter().filter(|peer| size <= peer.max) {
            all.push(Box::new(OfGo { go: go.clone(), peer, size }));
        }
    }
    Ok(all)
}

fn skipped(go: bool) -> Vec<String> {
    let mut skipped = Vec::new();
    if !cfg!(feature = "peers") {
        skipped.push("the peers: built without them".to_owned());
    }
    if !go {
        skipped.push(go::MISSING.to_owned());
    }
    skipped
}

struct Name {
    name: String,
    beside: Option<String>,
}

impl Name {
    fn of(subject: &dyn Subject) -> Self {
        Self { name: subject.name().to_owned(), beside: subject.beside().map(str::to_owned) }
    }
}

struct Found<'a> {
    names: Vec<Name>,
    sizes: &'a [usize],
    cells: BTreeMap<Cell, Figures>,
}

impl Found<'_> {
    fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.in_short()];
        for threads in THREADS {
            for unhealthy in UNHEALTHY {
                let caption = format!("Threads: {threads}. Unhealthy: {unhealthy} %.");
                let sizes = self.sizes.iter().map(|size| format!("n = {size}"));
                let head = ["ns a pick".to_owned()].into_iter().chain(sizes);
                let mut table = Table::new(&caption, head);
                for name in &self.names {
                    let cells =
                        self.sizes.iter().map(|&n| self.cell((threads, unhealthy, n), name));
                    table.push([name.name.clone()].into_iter().chain(cells));
                }
                tables.push(table.folded());
            }
        }
        tables
    }

    fn cell(&self, cell: Cell, name: &Name) -> String {
        let Some(median) = self.median(cell, &name.name) else { return "cannot".to_owned() };
        match name.beside.as_deref().and_then(|beside| self.median(cell, beside)) {
            Some(ours) => format!("{} ({}x)", short(median), short(median / ours)),
            None => short(median),
        }
    }

    /// What a second thread and unhealthy instances change, at a usual size.
    fn in_short(&self) -> Table {
        let n = self.usual();
        let head = ["", "ns (quartiles)", "x throughput, 2 threads", "x ns, 90 % unhealthy"];
        let mut table = Table::new(&format!("n = {n}, in short."), head);
        for Name { name, .. } in &self.names {
            let Some(one) = self.cells[&(1, 0, n)].get(name) else { continue };
            let gain = self.gain(name).map_or(String::new(), short);
            let worse = self.worse(name).map_or(String::new(), short);
            table.push([name, &one.with_spread(), &gain, &worse]);
        }
        table
    }

    fn usual(&self) -> usize {
        if self.sizes.contains(&1000) { 1000 } else { self.sizes[0] }
    }

    /// How many times the throughput of one thread two have.
    fn gain(&self, name: &str) -> Option<f64> {
        let n = self.usual();
        Some(self.median((1, 0, n), name)? / self.median((2, 0, n), name)?)
    }

    /// How many times as long a pick takes with 90 % unhealthy.
    fn worse(&self, name: &str) -> Option<f64> {
        let n = self.usual();
        Some(self.median((1, 90, n), name)? / self.median((1, 0, n), name)?)
    }

    fn plots(&self) -> Vec<Plot> {
        let shown = |name: &&Name| {
            let some = ["round_robin", "peak_ewma", "maglev", "`Balanced::pick`, peak_ewma"];
            name.beside.is_some() || some.contains(&&*name.name)
        };
        let line = |name: &Name| {
            let point = |&n: &usize| Some((n as f64, self.median((1, 0, n), &name.name)?));
            let points = self.sizes.iter().filter_map(point).collect();
            Line { name: name.name.replace('`', ""), points }
        };
        vec![Plot {
            name: "pick".to_owned(),
            title: "A pick, one thread, all healthy".to_owned(),
            x: Axis::logarithmic("instances"),
            y: Axis::logarithmic("ns"),
            lines: self.names.iter().filter(shown).map(line).collect(),
        }]
    }

    /// At a usual size, one thread, all healthy.
    fn beside(&self) -> Vec<Beside> {
        let cell = (1, 0, self.usual());
        let mut lines = Vec::new();
        for Name { name, beside } in &self.names {
            let Some((ours, of_peer)) = beside.as_deref().zip(self.median(cell, name)) else {
                continue;
            };
            // Which position, and all that a call needs: a sceptic may ask for either.
            for ours in [ours.to_owned(), ours::through(ours)] {
                if let Some(of_ours) = self.median(cell, &ours) {
                    let what = format!("a pick, n = {}", self.usual());
                    lines.push(Beside::new(&what, (&ours, of_ours), (name, of_peer), "ns"));
                }
            }
        }
        lines
    }

    fn targets(&self) -> Vec<Target> {
        let n = self.usual();
        let mut targets = Vec::new();
        for (name, goal) in GOALS {
            let goals = [
                self.median((1, 0, n), name)
                    .map(|ns| Target::at_most(&format!("pick, {name}, n = {n}"), goal, ns, "ns")),
                self.gain(name)
                    .map(|gain| Target::at_least(&format!("two threads, {name}"), 1.8, gain, "x")),
                self.worse(name).map(|worse| {
                    Target::at_most(&format!("90 % unhealthy, {name}"), 1.1, worse, "x")
                }),
            ];
            targets.extend(goals.into_iter().flatten());
        }
        targets
    }

    fn median(&self, cell: Cell, name: &str) -> Option<f64> {
        Some(self.cells.get(&cell)?.get(name)?.median)
    }
}

/// Nanoseconds at the most.
const GOALS: [(&str, f64); 9] = [
    ("round_robin", 20.0),
    ("p2c", 40.0),
    ("least_request", 40.0),
    ("peak_ewma", 40.0),
    ("weighted_random, zipf", 40.0),
    ("weighted_random, one heavy", 40.0),
    ("weighted_round_robin, zipf", 40.0),
    ("weighted_round_robin, one heavy", 40.0),
    ("maglev", 15.0),
];
