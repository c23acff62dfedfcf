//! A change of the set: what one instance that comes, goes or gets another weight costs its client.

pub(crate) mod fleet;
mod storm;

use std::time::{Duration, Instant};

use fleetward_balancers::{RoundRobin, WeightedRoundRobin};
use fleetward_core::{Balancer, EndpointSet};
use tokio::runtime::{Builder, Runtime};

use self::fleet::{Fleet, Nobody};
use crate::measure::{Effort, figure, short};
use crate::rows::Row;
use crate::section::{Section, Table, Target};
use crate::{Result, cpu};

const INTRO: &str = "\
One instance in the middle of the list changes: the registry's watch says so, the reflector makes a new \
snapshot, the endpointer a new set, the balancer prepares it, and a caller that waits for it sees it. The time \
is from the registry's word to that moment; all of it runs on one thread, so the memory of the old set is given \
back before the caller wakes, and CPU and bytes are those of the whole chain.";

pub(crate) const ROW: Row = Row { name: "change", title: "A change of the set", run };

fn run(effort: &Effort) -> Result<Section> {
    let mut section = Section { intro: INTRO.to_owned(), ..Section::default() };
    let sizes: &[u32] = if effort.brief { &[100] } else { &[100, 1_000, 10_000, 100_000] };
    let mut table = Table::new(
        "One instance of n changes",
        ["n", "balancer", "change", "until it can be picked, µs", "CPU, µs", "allocated, KiB"],
    );
    for &size in sizes {
        for name in ["round robin", "weighted round robin"] {
            for cost in costs(size, name, if effort.brief { 1 } else { 15 })? {
                if size == 100_000 && name == "round robin" {
                    let what = format!("one of 100,000 {} until it can be picked", cost.change);
                    let measured = figure("", cost.visible.clone()).median / 1e3;
                    section.targets.push(Target::at_most(&what, 1.0, measured, "ms"));
                }
                table.push([
                    size.to_string(),
                    name.to_owned(),
                    cost.change.to_owned(),
                    figure("", cost.visible).with_spread(),
                    short(figure("", cost.cpu).median),
                    short(figure("", cost.bytes).median / 1024.0),
                ]);
            }
        }
    }
    section.tables.push(table);
    section.tables.push(storm::table(effort)?);
    Ok(section)
}

/// What one kind of change costs, change by change, in microseconds and bytes.
struct Cost {
    change: &'static str,
    visible: Vec<f64>,
    cpu: Vec<f64>,
    bytes: Vec<f64>,
}

fn balancer(name: &str) -> Box<dyn Balancer> {
    match name {
        "round robin" => Box::new(RoundRobin::new()),
        _ => Box::new(WeightedRoundRobin::new()),
    }
}

fn costs(size: u32, name: &str, rounds: u32) -> Result<[Cost; 3]> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let fleet = runtime.block_on(Fleet::new(size, balancer(name)))?;
    let cost = |change| Cost { change, visible: vec![], cpu: vec![], bytes: vec![] };
    let mut costs = ["re-weighted", "removed", "added"].map(cost);
    let (middle, count) = (size / 2, size as usize);
    for round in 0..rounds {
        let weight = 2 + round;
        costs[0].measure(
            &runtime,
            &fleet,
            || fleet.put(middle, weight),
            |set| set.ready()[middle as usize].instance().weight() == weight,
        )?;
        let gone = |set: &EndpointSet<Nobody>| set.ready().len() == count - 1;
        costs[1].measure(&runtime, &fleet, || fleet.delete(middle), gone)?;
        let back = |set: &EndpointSet<Nobody>| set.ready().len() == count;
        costs[2].measure(&runtime, &fleet, || fleet.put(middle, weight), back)?;
    }
    Ok(costs)
}

impl Cost {
    fn measure(
        &mut self,
        runtime: &Runtime,
        fleet: &Fleet,
        change: impl Fn() -> Result<()>,
        seen: impl Fn(&EndpointSet<Nobody>) -> bool,
    ) -> Result<()> {
        // Longer than snapshots are kept apart, and than a large set makes the next one wait.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(150)).await });
        let mut visible: Result<Duration> = Ok(Duration::ZERO);
        let before = cpu::used();
        let allocated = allocation_counter::measure(|| {
            visible = runtime.block_on(async {
                let begun = Instant::now();
                change()?;
                fleet.balanced.endpointer().wait_for(&seen).await;
                Ok(begun.elapsed())
            });
        });
        self.cpu.push((cpu::used() - before).as_secs_f64() * 1e6);
        self.visible.push(visible?.as_secs_f64() * 1e6);
        self.bytes.push(allocated.bytes_total as f64);
        Ok(())
    }
}
