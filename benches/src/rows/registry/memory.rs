//! What an instance weighs in a client: resident memory, in a process of its own.

use std::process::Command;

use fleetward_balancers::RoundRobin;

use crate::measure::{Effort, short};
use crate::rows::change::fleet::Fleet;
use crate::section::{Section, Table, Target};
use crate::{Result, cpu};

pub(crate) fn measure(effort: &Effort, section: &mut Section) -> Result<()> {
    let endpoints = if effort.brief { 1_000 } else { 100_000 };
    let output =
        Command::new(std::env::current_exe()?).args(["weigh", &endpoints.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace().map(str::parse::<f64>);
    let (Some(Ok(resident)), Some(Ok(allocated))) = (words.next(), words.next()) else {
        section.skipped.push("memory: there is no /proc to read it from".to_owned());
        return Ok(());
    };
    let mut table = Table::new(
        "Memory of a client, all of it: the registry's table, the snapshot, the endpoints, the set",
        ["endpoints", "resident, bytes an instance", "allocated, bytes an instance"],
    );
    table.push([endpoints.to_string(), short(resident), short(allocated)]);
    section.tables.push(table);
    if !effort.brief {
        let what = "memory an instance at 100,000";
        section.targets.push(Target::at_most(what, 1024.0, resident, "bytes"));
    }
    Ok(())
}

/// Says what so many endpoints weigh, in bytes an instance: resident, and allocated.
pub(crate) fn weigh(endpoints: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = cpu::resident().ok_or("no /proc")?;
    let mut fleet = None;
    let allocated = allocation_counter::measure(|| {
        fleet = Some(runtime.block_on(async {
            let fleet = Fleet::new(endpoints, RoundRobin::new()).await;
            // What is only waiting to be dropped is dropped.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            fleet
        }));
    });
    let after = cpu::resident().ok_or("no /proc")?;
    let each = f64::from(endpoints);
    println!("{} {}", (after - before) as f64 / each, allocated.bytes_current as f64 / each);
    drop(fleet.transpose()?);
    Ok(())
}
