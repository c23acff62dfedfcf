//! Every contender with every seed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use fleetward_core::BoxError;

use crate::score::{Latencies, median};
use crate::{Scenario, run};

/// Quantiles of a latency curve, from the median on, as how many nines they have: 3 is 99.9 %.
fn nines() -> impl Iterator<Item = f64> {
    (6..=80).map(|step| f64::from(step) / 20.0)
}

/// The first of them: 50 %.
pub(crate) const LEAST_NINES: f64 = 0.3;

/// What a scenario came to.
#[derive(Clone, Debug)]
pub struct Results {
    /// How many seeds.
    pub seeds: u64,
    /// A row for each contender.
    pub rows: Vec<Row>,
}

/// What one contender came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who.
    pub contender: &'static str,
    /// Each column's figures, one a seed, sorted.
    pub figures: Vec<Vec<f64>>,
    /// The median latency in milliseconds over the nines of the quantile.
    pub curve: Vec<(f64, f64)>,
    /// The median figure over time in seconds.
    pub series: Vec<(f64, f64)>,
}

struct Outcome {
    figures: Vec<f64>,
    curve: Vec<f64>,
    series: Vec<f64>,
}

/// Runs a scenario with seeds from 1 on, on every core.
///
/// # Errors
/// As [`run`].
pub fn run_all(scenario: &Scenario, seeds: u64) -> Result<Results, BoxError> {
    let jobs: Vec<(usize, u64)> = (0..scenario.contenders.len())
        .flat_map(|contender| (1..=seeds).map(move |seed| (contender, seed)))
        .collect();
    let outcomes: Mutex<Vec<Option<Result<Outcome, BoxError>>>> =
        Mutex::new(jobs.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(contender, seed)) = jobs.get(job) else { break };
                    let outcome = measure(scenario, contender, seed);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner)[job] = Some(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect::<Result<_, _>>()?;
    let rows = scenario.contenders.iter().zip(outcomes.chunks(seeds.max(1) as usize));
    let rows = rows.map(|(contender, outcomes)| row(scenario, contender.title(), outcomes));
    Ok(Results { seeds, rows: rows.collect() })
}

fn measure(scenario: &Scenario, contender: usize, seed: u64) -> Result<Outcome, BoxError> {
    let trace = run(&(scenario.plan)(seed), &scenario.contenders[contender], seed)?;
    let mut curve = Vec::new();
    if scenario.curve {
        let latencies = Latencies::of(&trace.calls);
        curve = nines().map(|nines| latencies.quantile(1.0 - 10f64.powf(-nines))).collect();
    }
    let mut series = Vec::new();
    if let Some(over_time) = scenario.series {
        let bins = (0..over_time.span).step_by(over_time.bin.max(1) as usize);
        series = bins
            .map(|from| (over_time.figure)(trace.between(from, from + over_time.bin)))
            .collect();
    }
    Ok(Outcome { figures: (scenario.score)(&trace), curve, series })
}

fn row(scenario: &Scenario, contender: &'static str, outcomes: &[Outcome]) -> Row {
    let column = |at: usize| {
        let mut figures: Vec<f64> = outcomes.iter().map(|outcome| outcome.figures[at]).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures
    };
    let medians = |of: fn(&Outcome) -> &Vec<f64>| -> Vec<f64> {
        let points = outcomes.first().map_or(0, |outcome| of(outcome).len());
        let at = |point: usize| {
            let mut all: Vec<f64> = outcomes.iter().map(|outcome| of(outcome)[point]).collect();
            median(&mut all)
        };
        (0..points).map(at).collect()
    };
    let curve = nines().zip(medians(|outcome| &outcome.curve)).collect();
    let bin = scenario.series.map_or(0.0, |series| series.bin as f64 / 1e9);
    let series = medians(|outcome| &outcome.series).into_iter().enumerate();
    Row {
        contender,
        figures: (0..scenario.columns.len()).map(column).collect(),
        curve,
        series: series.map(|(at, figure)| ((at as f64 + 0.5) * bin, figure)).collect(),
    }
}
