//! Picks while the set changes a thousand times a second.

use std::time::{Duration, Instant};

use fleetward_balancers::RoundRobin;
use tokio::runtime::Builder;

use crate::error::Result;
use crate::measure::{Effort, short};
use crate::scripted::ScriptedClient;
use crate::section::Table;

/// Changes a second.
const RATE: u32 = 1_000;

pub(crate) fn table(effort: &Effort) -> Result<Table> {
    let mut table = Table::new(
        "A pick (with the clock read around it) while 1,000 instances a second change their weight, ns",
        ["n", "set", "p50", "p99", "p99.9", "p99.99"],
    );
    let time = Duration::from_millis(if effort.brief { 20 } else { 2_000 });
    let sizes: &[u32] = if effort.brief { &[100] } else { &[100, 10_000, 100_000] };
    for &size in sizes {
        // The set is kept by a thread of its own, as in a client with more than one.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(ScriptedClient::new(size, RoundRobin::new()))?;
        let quiet = picks(&client, time);
        let client = std::sync::Arc::new(client);
        let feeder = runtime.spawn(feed(client.clone(), size));
        let stormy = picks(&client, time);
        feeder.abort();
        for (name, picks) in [("quiet", quiet), ("changing", stormy)] {
            let at = |share: f64| {
                let position = (picks.len().saturating_sub(1) as f64 * share) as usize;
                picks.get(position).map_or_else(String::new, |nanos| short(f64::from(*nanos)))
            };
            let cells = [0.5, 0.99, 0.999, 0.9999].map(at);
            table.push([size.to_string(), name.to_owned()].into_iter().chain(cells));
        }
    }
    Ok(table)
}

async fn feed(client: std::sync::Arc<ScriptedClient>, size: u32) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    for n in 0.. {
        ticks.tick().await;
        client.put(n % size, 2 + n)?;
    }
    Ok(())
}

/// Sorted, in nanoseconds.
fn picks(client: &ScriptedClient, time: Duration) -> Vec<u32> {
    let mut took = Vec::with_capacity(1 << 22);
    let end = Instant::now() + time;
    loop {
        let before = Instant::now();
        let picked = client.balanced.pick(&());
        let after = Instant::now();
        std::hint::black_box(picked);
        took.push(u32::try_from((after - before).as_nanos()).unwrap_or(u32::MAX));
        if after > end || took.len() == took.capacity() {
            break;
        }
    }
    took.sort_unstable();
    took
}
