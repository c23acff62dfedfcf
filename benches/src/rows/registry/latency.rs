//! The time from a write to the first pick.

use std::time::{Duration, Instant};

use fleetward::{Balanced, DefaultEndpointer, Endpointer, Instance, Instancer};
use fleetward_balancers::RoundRobin;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::measure::short;
use crate::scripted::Nobody;
use crate::section::{Beside, Table};

/// How a registry is written to by hand, as another program would.
pub(crate) trait Writes {
    async fn write(&mut self) -> Result<()>;
    async fn delete(&mut self) -> Result<()>;

    /// How long after a change the client is quiet again: each change is to meet a quiet one.
    fn quiet(&self) -> Duration;
}

/// Sorted, in milliseconds.
pub(crate) struct Latencies {
    to_pick: Vec<f64>,
    write: Vec<f64>,
}

pub(crate) async fn measure(
    instancer: Arc<dyn Instancer>,
    writes: &mut impl Writes,
    rounds: usize,
) -> Result<Latencies> {
    let make = |_: Arc<Instance>| std::future::ready(Ok::<_, fleetward::Error>(Nobody));
    let endpointer: DefaultEndpointer<Nobody> = DefaultEndpointer::new(instancer, make);
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::new());
    let mut all = Latencies { to_pick: Vec::new(), write: Vec::new() };
    for _ in 0..rounds {
        let gone = endpointer
            .endpoints()
            .wait_for(|set| set.known() == 0 && !set.freshness().is_pending());
        within(gone).await?;
        tokio::time::sleep(writes.quiet()).await;
        let waiting = {
            let (balanced, endpointer) = (balanced.clone(), endpointer.clone());
            tokio::spawn(async move {
                endpointer.endpoints().wait_for(|set| !set.ready().is_empty()).await;
                balanced.pick(&()).map(|_| Instant::now())
            })
        };
        let begun = Instant::now();
        writes.write().await?;
        all.write.push(begun.elapsed().as_secs_f64() * 1e3);
        let picked = within(waiting).await??.ok_or("nothing was picked")?;
        all.to_pick.push((picked - begun).as_secs_f64() * 1e3);
        tokio::time::sleep(writes.quiet()).await;
        writes.delete().await?;
    }
    all.to_pick.sort_by(f64::total_cmp);
    all.write.sort_by(f64::total_cmp);
    Ok(all)
}

async fn within<F: Future>(future: F) -> Result<F::Output> {
    let most = Duration::from_secs(20);
    tokio::time::timeout(most, future).await.map_err(|_| Error::from("nothing for 20 s"))
}

pub(crate) fn table() -> Table {
    Table::new(
        "From a write to the first pick, ms",
        ["registry", "changes", "p50", "p99", "most", "the write alone, p50", "p99"],
    )
}

impl Latencies {
    pub(crate) fn p99(&self) -> f64 {
        at(&self.to_pick, 0.99)
    }

    /// The registry's own time is in ours: a ratio of one half says that a client doubles it.
    pub(crate) fn beside(&self, registry: &str) -> Beside {
        let (whole, write) = (at(&self.to_pick, 0.5), at(&self.write, 0.5));
        let what = format!("{registry}: from a write to the first pick, p50");
        Beside::new(&what, ("write and pick", whole), ("the write alone", write), "ms")
    }

    pub(crate) fn row(&self, registry: &str) -> [String; 7] {
        [
            registry.to_owned(),
            self.to_pick.len().to_string(),
            short(at(&self.to_pick, 0.5)),
            short(self.p99()),
            short(at(&self.to_pick, 1.0)),
            short(at(&self.write, 0.5)),
            short(at(&self.write, 0.99)),
        ]
    }
}

fn at(sorted: &[f64], share: f64) -> f64 {
    let position = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(position).copied().unwrap_or(f64::NAN)
}
