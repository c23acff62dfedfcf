//! A call through the layers, to a service that does nothing.

#[cfg(feature = "peers")]
mod peers;
mod stack;

use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::{PeakEwma, RoundRobin};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::retry::RatioBudget;
use fleetward_core::{Balanced, DefaultEndpointer, Retry};
use tower_layer::Layer;

pub(crate) use self::stack::Stack;
use self::stack::{BALANCED, DEADLINE, EVERYTHING, EWMA, GO_KIT, RETRY};
use super::Row;
use crate::calls::Calls;
use crate::error::Result;
use crate::go::{self, Go};
use crate::in_context::InContext;
use crate::measure::{Contender, Effort, Figure, race, short};
use crate::members::Weights;
use crate::noop::{Endpoints, NoOp};
use crate::section::{Bar, Bars, Beside, Section, Table, Target};

pub(crate) const ROW: Row = Row { name: "layers", title: "Through the layers", run };

const SIZE: usize = 100;

fn run(effort: &Effort) -> Result<Section> {
    let (plain, watched) = endpoints(SIZE)?;
    #[allow(unused_mut)]
    let mut stacks = ours(&plain, &watched);
    #[cfg(feature = "peers")]
    stacks.extend(peers::stacks(SIZE)?);
    for stack in &stacks {
        if (stack.calls)(100) != 100 {
            return Err(format!("{}: calls fail", stack.name).into());
        }
    }
    let go = Go::start()?;
    let mut names: Vec<_> = stacks.iter().map(|stack| (stack.name, stack.beside)).collect();
    let mut allocations: Vec<(f64, f64)> = stacks.iter().map(allocations).collect();
    let contenders = stacks.iter().map(|stack| {
        Contender::new(stack.name, |times| {
            std::hint::black_box((stack.calls)(times));
        })
    });
    let mut contenders: Vec<_> = contenders.collect();
    if let Some(go) = &go {
        contenders.push(go.contender(GO_KIT, "gokit_retry", SIZE, 1));
        names.push((GO_KIT, Some(DEADLINE)));
        let calls = 1000;
        let (_, count) = go.run("gokit_retry", SIZE, 1, calls)?;
        allocations.push((count as f64 / calls as f64, f64::NAN));
    }
    let figures = race(contenders, effort);
    if let Some(go) = &go {
        go.check()?;
    }
    let skipped = skipped(go.is_some());
    let found = Found { names, figures, allocations };
    Ok(Section {
        intro: INTRO.to_owned(),
        tables: vec![found.table()],
        skipped,
        bars: vec![found.bars()],
        targets: found.targets(),
        beside: found.beside(),
        versions: go.map(|go| go.versions()).transpose()?.into_iter().collect(),
        ..Section::default()
    })
}

const INTRO: &str = "\
One task calls a service that answers at once, through what stands between a caller and 100 instances of it; no call \
fails. What is left is what the layers cost: nanoseconds, allocations and bytes allocated, on all threads that take \
part, for each call. Everything: Peak EWMA, outlier detection, retries with a budget, a deadline for the call and one \
for each attempt.";

/// Our stacks, by name.
pub(crate) const OURS: [&str; 5] = [BALANCED, EWMA, RETRY, DEADLINE, EVERYTHING];

/// One of our stacks, alone and for good.
pub(crate) fn calls(name: &str, size: usize) -> Result<Box<dyn Fn(u64) -> u64>> {
    let (plain, watched) = endpoints(size)?;
    let (plain, watched): (&'static _, &'static _) =
        (Box::leak(plain.into()), Box::leak(watched.into()));
    let stack = ours(plain, watched).into_iter().find(|stack| stack.name == name);
    Ok(stack.ok_or("there is no such stack")?.calls)
}

fn endpoints(size: usize) -> Result<(Endpoints, Endpoints)> {
    let detection = DefaultEndpointer::builder().outlier_detection(OutlierDetection::default());
    let watched = Endpoints::with(detection, size, 0, Weights::Even)?;
    Ok((Endpoints::new(size, 0, Weights::Even)?, watched))
}

fn ours<'a>(plain: &'a Endpoints, watched: &'a Endpoints) -> Vec<Stack<'a>> {
    let balanced = || Balanced::new(plain.endpointer.clone(), RoundRobin::new());
    let ewma = |endpoints: &Endpoints| Balanced::new(endpoints.endpointer.clone(), PeakEwma::new());
    let everything = Retry::new(3, Duration::from_secs(1))
        .per_attempt_timeout(Duration::from_millis(500))
        .budget(Arc::new(RatioBudget::default()));
    vec![
        stack("the service alone", plain, NoOp::new(true)),
        stack(BALANCED, plain, InContext(balanced())),
        stack(EWMA, plain, InContext(ewma(plain))),
        // A timeout beyond the clock's range is none.
        stack(RETRY, plain, InContext(Retry::new(3, Duration::MAX).layer(balanced()))),
        stack(DEADLINE, plain, InContext(Retry::new(3, Duration::from_secs(1)).layer(balanced()))),
        stack(EVERYTHING, watched, InContext(everything.layer(ewma(watched)))),
    ]
}

fn stack<'a, S>(name: &'static str, endpoints: &'a Endpoints, service: S) -> Stack<'a>
where
    S: tower_service::Service<u64> + Clone + 'a,
{
    let calls = move |times| endpoints.runtime.block_on(Calls::new(service.clone(), times));
    Stack { name, beside: None, calls: Box::new(calls) }
}

/// How many, and how many bytes, a call. All tasks of a stack run on this thread.
fn allocations(stack: &Stack<'_>) -> (f64, f64) {
    let calls = 1000;
    let counted = |calls| {
        allocation_counter::measure(|| {
            std::hint::black_box((stack.calls)(calls));
        })
    };
    // What the loop itself needs is in both.
    let (few, many) = (counted(calls), counted(2 * calls));
    let each = |few: u64, many: u64| many.saturating_sub(few) as f64 / calls as f64;
    (each(few.count_total, many.count_total), each(few.bytes_total, many.bytes_total))
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

struct Found {
    /// And of those of ours that do the same.
    names: Vec<(&'static str, Option<&'static str>)>,
    figures: Vec<Figure>,
    allocations: Vec<(f64, f64)>,
}

impl Found {
    fn table(&self) -> Table {
        let head = ["", "ns a call (quartiles)", "x ours", "allocations", "bytes"];
        let mut table = Table::new("", head);
        for (at, (name, beside)) in self.names.iter().enumerate() {
            let figure = &self.figures[at];
            let ratio = beside.and_then(|beside| self.position(beside));
            let ratio = ratio.map_or(String::new(), |ours| {
                format!("{}x", short(figure.median / self.figures[ours].median))
            });
            let (count, bytes) = self.allocations[at];
            let bytes = if bytes.is_nan() { String::new() } else { format!("{bytes:.0}") };
            let cells = [figure.with_spread(), ratio, format!("{count:.2}"), bytes];
            table.push([(*name).to_owned()].into_iter().chain(cells));
        }
        table
    }

    fn bars(&self) -> Bars {
        let bars = self.names.iter().zip(&self.figures).map(|((name, beside), figure)| Bar {
            name: (*name).to_owned(),
            figure: figure.median,
            is_peer: beside.is_some(),
        });
        Bars {
            name: "layers".to_owned(),
            title: "A call to a service that does nothing, ns".to_owned(),
            bars: bars.collect(),
        }
    }

    fn beside(&self) -> Vec<Beside> {
        let line = |(peer, of_peer): (&(&str, Option<&'static str>), &Figure)| {
            let ours = peer.1?;
            let of_ours = self.figures[self.position(ours)?].median;
            let what = "a call through the layers";
            Some(Beside::new(what, (ours, of_ours), (peer.0, of_peer.median), "ns"))
        };
        self.names.iter().zip(&self.figures).filter_map(line).collect()
    }

    fn targets(&self) -> Vec<Target> {
        let at = |name| self.position(name).unwrap_or_default();
        let (balanced, retry) = (at(BALANCED), at(RETRY));
        let added = self.figures[retry].median - self.figures[balanced].median;
        let allocations = self.allocations[retry].0 - self.allocations[balanced].0;
        vec![
            Target::at_most(
                "allocations of Balanced, a call",
                0.0,
                self.allocations[balanced].0,
                "",
            ),
            Target::at_most("the retry layer, no failure", 200.0, added, "ns"),
            Target::at_most("the retry layer, no failure, allocations", 1.0, allocations, ""),
        ]
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|(known, _)| *known == name)
    }
}
