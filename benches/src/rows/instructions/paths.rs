//! What is counted: the paths that every call takes.

use std::hint::black_box;
use std::sync::Arc;

use crate::error::Result;
use crate::members::Members;
use crate::noop::Endpoints;
use crate::rows::{layers, pick};

const SIZE: usize = 1000;

/// Fewer behind an endpointer: what it does to come up is not the same twice, and would be in the
/// difference.
const CALLED: usize = 20;

/// A path, ready to be walked so many times.
pub(super) struct Path {
    walk: Box<dyn Fn(u64)>,
}

/// The names of all paths.
pub(super) fn names() -> impl Iterator<Item = String> {
    let picks = pick::ALL.iter().map(|ours| ours.name.to_owned());
    picks.chain(THROUGH.map(pick_name)).chain(layers::OURS.map(call_name))
}

/// The ones that are also asked through `Balanced`: the rest differs in nothing but the choice.
const THROUGH: [&str; 3] = ["round_robin", "peak_ewma", "weighted_round_robin, zipf"];

fn pick_name(balancer: &str) -> String {
    format!("`Balanced::pick`, {balancer}")
}

fn call_name(stack: &str) -> String {
    format!("a call: {stack}")
}

impl Path {
    pub(super) fn new(name: &str) -> Result<Self> {
        // Whatever draws from the thread's own generator draws the same each time.
        fastrand::seed(7);
        if let Some(ours) = pick::ALL.iter().find(|ours| ours.name == name) {
            let picking = pick::Picking::new(ours, Arc::new(Members::new(SIZE, 0, ours.weights)?))?;
            return Ok(Self::of(move |times| picking.pick(times)));
        }
        if let Some(ours) = pick::ALL.iter().find(|ours| pick_name(ours.name) == name) {
            let endpoints = Arc::new(Endpoints::new(CALLED, 0, ours.weights)?);
            let through = pick::Through::new(ours, endpoints)?;
            return Ok(Self::of(move |times| through.pick(times)));
        }
        let Some(stack) = layers::OURS.into_iter().find(|stack| call_name(stack) == name) else {
            return Err(format!("there is no path {name:?}").into());
        };
        let calls = layers::calls(stack, CALLED)?;
        Ok(Self::of(move |times| {
            black_box(calls(times));
        }))
    }

    fn of(walk: impl Fn(u64) + 'static) -> Self {
        Self { walk: Box::new(walk) }
    }

    pub(super) fn walk(&self, times: u64) {
        (self.walk)(times);
    }

    /// Allocations of one walk. What happens once is in both counts.
    pub(super) fn allocations(&self) -> f64 {
        let times = 1000;
        let count = |times| allocation_counter::measure(|| self.walk(times)).count_total;
        let (few, many) = (count(times), count(2 * times));
        many.saturating_sub(few) as f64 / times as f64
    }
}
