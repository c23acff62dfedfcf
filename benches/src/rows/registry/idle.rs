//! What it costs to watch services in which nothing happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetward::{DefaultEndpointer, Endpointer, Instance, RegistryHandle};

use crate::cpu;
use crate::error::Result;
use crate::measure::{Effort, short};
use crate::scripted::Nobody;
use crate::section::Table;

pub(crate) const SERVICES: usize = 100;

pub(crate) fn table() -> Table {
    Table::new(
        "CPU of this process while it watches 100 idle services, in percent of a core",
        ["registry", "watched for, s", "CPU"],
    )
}

/// Percent of a core.
pub(crate) async fn measure(registry: &RegistryHandle, effort: &Effort) -> Result<(f64, String)> {
    let mut all = Vec::new();
    for n in 0..SERVICES {
        let instancer = registry.service(format!("idle-{n}"))?;
        let make = |_: Arc<Instance>| std::future::ready(Ok::<_, fleetward::Error>(Nobody));
        let endpointer: DefaultEndpointer<Nobody> = DefaultEndpointer::new(instancer, make);
        endpointer.endpoints().wait_for(|set| !set.freshness().is_pending()).await;
        all.push(endpointer);
    }
    tokio::time::sleep(Duration::from_millis(if effort.brief { 10 } else { 1_000 })).await;
    let (start, before) = (Instant::now(), cpu::used());
    tokio::time::sleep(Duration::from_millis(if effort.brief { 100 } else { 20_000 })).await;
    let elapsed = start.elapsed().as_secs_f64();
    let share = (cpu::used() - before).as_secs_f64() / elapsed * 100.0;
    Ok((share, short(elapsed)))
}
