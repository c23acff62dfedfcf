//! From the registry to the pick: real servers, and what a client of them needs to stand by.

mod cold;
mod consul;
mod etcd;
mod idle;
mod latency;
pub(crate) mod memory;
mod version;

use crate::error::Result;
use crate::measure::Effort;
use crate::rows::Row;
use crate::section::{Section, Table};

const INTRO: &str = "\
Real registries on this machine, started for this run. A call is waiting when the first instance is written \
into the registry; the time is from before the write to the moment at which that call has picked the instance, \
so it holds the registry's own time, which is given beside it. A change comes when the client is quiet; of more than \
six changes a second Consul is asked at that pace only, so that a service that flaps does not load it.";

pub(crate) const ROW: Row = Row { name: "registry", title: "From the registry to the pick", run };

fn run(effort: &Effort) -> Result<Section> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut section = Section { intro: INTRO.to_owned(), ..Section::default() };
    runtime.block_on(async {
        let mut latencies = latency::table();
        let mut idle = idle::table();
        let mut cold = cold::table();
        Box::pin(etcd::measure(effort, &mut latencies, &mut idle, &mut cold, &mut section)).await?;
        Box::pin(consul::measure(effort, &mut latencies, &mut idle, &mut section)).await?;
        let tables = [latencies, idle, cold];
        section.tables.extend(tables.into_iter().filter(|table: &Table| !table.rows.is_empty()));
        Ok::<_, crate::error::Error>(())
    })?;
    memory::measure(effort, &mut section)?;
    Ok(section)
}
