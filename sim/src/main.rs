//! Runs scenarios and writes what they came to.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fleetward_core::BoxError;
use fleetward_sim::{Report, draw, run_all, scenarios};

/// Runs fleetward's balancers against simulated servers, in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds each balancer is run with.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Only the scenarios whose name contains this; may be given more than once.
    #[arg(long)]
    scenario: Vec<String>,
    /// Writes the tables (figures.md) and pictures into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<ExitCode, BoxError> {
    let Arguments { seeds, scenario: wanted, out } = Arguments::parse();
    let mut page = String::from(
        "# Figures\n\n\
         Made by `cargo run -p fleetward-sim --release -- --out docs/balancers`: do not edit. What \
         they mean is said in [balancers.md](../balancers.md).\n\n",
    );
    page += &format!(
        "Each figure is the median over {seeds} seeds, with the least and the greatest in brackets. \
         Latencies leave failed calls out. There are no retries: an error is an attempt's.\n"
    );
    let mut all_met = true;
    for scenario in scenarios::all() {
        if !wanted.is_empty()
            && !wanted.iter().any(|wanted| scenario.name.contains(wanted.as_str()))
        {
            continue;
        }
        let results = run_all(&scenario, seeds)?;
        let pictures = match &out {
            Some(folder) => {
                fs::create_dir_all(folder)?;
                draw(&scenario, &results, folder)?
            }
            None => Vec::new(),
        };
        let report = Report { scenario: &scenario, results: &results, pictures: &pictures };
        all_met &= report.meets_its_goals();
        println!("{report}");
        page += &format!("\n{report}");
    }
    if let Some(folder) = out {
        fs::write(folder.join("figures.md"), page)?;
    }
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
