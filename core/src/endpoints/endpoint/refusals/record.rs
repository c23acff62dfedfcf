//! How one endpoint answers one operation.

use tokio::time::Instant;

use crate::endpoints::Operation;
use crate::endpoints::endpoint::doubt::{Doubt, Found, Heard};

/// The number of refusals in a row that makes a doubt, where nothing asks for more.
const LEAST: u32 = 5;
/// And so many where the endpoint refuses other operations that others do.
const LEAST_BESIDE_OTHERS: u32 = 2;
/// And no doubt needs more than so many.
const MOST: u32 = 1024;

/// One operation.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) operation: Operation,
    /// Answers since it was first refused; halved now and then.
    pub(super) good: u32,
    pub(super) refused: u32,
    pub(super) in_a_row: u32,
    /// The least number of refusals in a row that it takes: doubled after each false alarm.
    pub(super) least: u32,
    pub(super) last: Instant,
    pub(super) doubt: Option<Doubt>,
}

impl Record {
    pub(super) fn new(operation: Operation, now: Instant) -> Self {
        Self { operation, good: 0, refused: 0, in_a_row: 0, least: LEAST, last: now, doubt: None }
    }

    pub(super) fn refuse(&mut self, now: Instant) {
        self.last = now;
        self.refused += 1;
        self.halve();
    }

    /// A call that began at `began` was answered well. Whether that ends a doubt.
    pub(super) fn answer(&mut self, began: Instant) -> bool {
        self.good += 1;
        self.halve();
        self.in_a_row = 0;
        // The answer to a call from before says nothing about what is now.
        let ends = self.doubt.take_if(|doubt| doubt.began() <= began).is_some();
        if ends {
            self.least = (self.least * 2).min(MOST);
        }
        ends
    }

    /// What became of a call that went elsewhere.
    pub(super) fn heard(&mut self, heard: Heard, now: Instant) -> Found {
        let found = self.doubt.as_mut().map_or(Found::Nothing, |doubt| doubt.heard(heard, now));
        if found == Found::Unfounded {
            (self.doubt, self.in_a_row) = (None, 0);
            self.least = (self.least * 2).min(MOST);
        }
        found
    }

    fn halve(&mut self) {
        const WINDOW: u32 = 1024;
        if self.refused + self.good >= WINDOW {
            (self.refused, self.good) = (self.refused.div_ceil(2), self.good.div_ceil(2));
        }
    }

    /// How many refusals in a row do not come about by chance, by how often it refused before: one
    /// in a million.
    pub(super) fn needed(&self, beside_others: bool) -> u32 {
        let before = self.refused.saturating_sub(self.in_a_row) as f32;
        // As if it had answered twice before, and well.
        let share = (before + 0.1) / (before + self.good as f32 + 2.0);
        let needed = (1e-6f32.ln() / share.ln()).ceil();
        let least = if beside_others { LEAST_BESIDE_OTHERS.min(self.least) } else { self.least };
        (needed as u32).clamp(least, MOST)
    }
}
