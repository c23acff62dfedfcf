//! What an instance weighs in a client: resident memory, in a process of its own.

use std::any::Any;
use std::process::Command;

use fleetward_balancers::RoundRobin;
use tokio::runtime::Builder;

use crate::cpu;
use crate::error::Result;
use crate::measure::{Effort, short};
use crate::scripted::ScriptedClient;
use crate::section::{Beside, Section, Table, Target};

const OURS: &str = "fleetward";

/// Names, for the reader and for `weigh`, and how many instances. pingora bears no 100,000.
const CLIENTS: &[(&str, &str, u32)] = &[
    (OURS, "fleetward", 100_000),
    #[cfg(feature = "peers")]
    ("pingora LoadBalancer<RoundRobin>", "pingora", 50_000),
    #[cfg(feature = "peers")]
    ("tower Balance of PeakEwma", "tower", 100_000),
];

pub(crate) fn measure(effort: &Effort, section: &mut Section) -> Result<()> {
    let mut table = Table::new(
        "Memory of a client. Ours, all of it: the registry's table, the snapshot, the endpoints, the set. The peers \
         keep addresses and no metadata, and tower's no address",
        [
            "client",
            "endpoints",
            "resident, bytes an instance",
            "x ours",
            "allocated, bytes an instance",
            "x ours",
        ],
    );
    let mut ours = None;
    for &(name, id, endpoints) in CLIENTS {
        let endpoints = if effort.brief { 1_000 } else { endpoints };
        let Some((resident, allocated)) = weight(id, endpoints)? else {
            section.skipped.push("memory: there is no /proc to read it from".to_owned());
            return Ok(());
        };
        let times = |all: f64, of_ours: f64| format!("{}x", short(all / of_ours));
        let ratios = match ours {
            None => [String::new(), String::new()],
            Some((r, a)) => [times(resident, r), times(allocated, a)],
        };
        let [first, second] = ratios;
        table.push([
            name.to_owned(),
            endpoints.to_string(),
            short(resident),
            first,
            short(allocated),
            second,
        ]);
        match ours {
            None if !effort.brief => {
                let what = "memory an instance at 100,000";
                section.targets.push(Target::at_most(what, 1024.0, resident, "bytes"));
            }
            None => {}
            Some((of_ours, _)) => {
                let (ours, peer) = ((OURS, of_ours), (name, resident));
                section.beside.push(Beside::new(
                    "resident memory an instance",
                    ours,
                    peer,
                    "bytes",
                ));
            }
        }
        ours = ours.or(Some((resident, allocated)));
    }
    section.tables.push(table);
    Ok(())
}

/// In another process: bytes an instance, resident and allocated; nothing where they cannot be read.
fn weight(id: &str, endpoints: u32) -> Result<Option<(f64, f64)>> {
    let this = std::env::current_exe()?;
    let output = Command::new(this).args(["weigh", id, &endpoints.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace().map(str::parse::<f64>);
    Ok(match (words.next(), words.next()) {
        (Some(Ok(resident)), Some(Ok(allocated))) => Some((resident, allocated)),
        _ => None,
    })
}

/// Says what so many endpoints weigh, in bytes an instance: resident, and allocated.
pub(crate) fn weigh(client: &str, endpoints: u32) -> Result<()> {
    let before = cpu::resident().ok_or("no /proc")?;
    let mut held = None;
    let allocated = allocation_counter::measure(|| held = Some(hold(client, endpoints)));
    let after = cpu::resident().ok_or("no /proc")?;
    let each = f64::from(endpoints);
    println!("{} {}", (after - before) as f64 / each, allocated.bytes_current as f64 / each);
    drop(held.transpose()?);
    Ok(())
}

fn hold(client: &str, endpoints: u32) -> Result<Box<dyn Any>> {
    match client {
        "fleetward" => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let client = runtime.block_on(async {
                let client = ScriptedClient::new(endpoints, RoundRobin::new()).await;
                // What is only waiting to be dropped is dropped.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                client
            })?;
            Ok(Box::new((runtime, client)))
        }
        #[cfg(feature = "peers")]
        "pingora" => {
            use crate::rows::change::peers::Pingora;
            Ok(Box::new(Pingora::new(endpoints)?.without_list()))
        }
        #[cfg(feature = "peers")]
        "tower" => Ok(Box::new(crate::rows::change::peers::Tower::new(endpoints)?)),
        other => Err(format!("there is no client {other:?}").into()),
    }
}
