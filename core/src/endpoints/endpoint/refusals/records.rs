//! What one endpoint has refused of late.

use std::time::Duration;

use tokio::time::Instant;

use super::finding::{Blame, News, Refusal};
use super::flags::{AVOIDED, KEEPS};
use super::record::Record;
use crate::endpoints::Operation;
use crate::endpoints::endpoint::doubt::{Doubt, Found, Heard};
use crate::endpoints::endpoint::way::Way;

/// The most operations that are remembered of an endpoint.
const OPERATIONS: usize = 32;
/// The number of operations refused in a row that makes a doubt about all of them.
const KINDS: u32 = 8;
const MOST_KINDS: u32 = 1024;
/// What was refused so long ago is forgotten.
const MEMORY: Duration = Duration::from_secs(60);
/// And a doubt that no call has met for so long.
const DOUBTED: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Records {
    pub(super) records: Vec<Record>,
    /// How many different operations were refused since the last good answer.
    kinds: u32,
    /// How many it takes for a doubt about all operations.
    most_kinds: u32,
    last_good: Option<Instant>,
    /// About all operations that have no doubt of their own.
    all: Option<Doubt>,
    /// Since when several operations are known to be refused here and done elsewhere, without a good
    /// answer since.
    pub(super) across: Option<Instant>,
    told: bool,
}

impl Records {
    pub(super) fn new() -> Self {
        Self {
            records: Vec::new(),
            kinds: 0,
            most_kinds: KINDS,
            last_good: None,
            all: None,
            across: None,
            told: false,
        }
    }

    pub(super) fn flags(&self) -> u8 {
        let doubted =
            self.all.is_some() || self.records.iter().any(|record| record.doubt.is_some());
        KEEPS | if doubted { AVOIDED } else { 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.all.is_none()
    }

    pub(super) fn refuses_all(&self) -> bool {
        self.all.as_ref().is_some_and(Doubt::is_confirmed)
    }

    pub(super) fn refused<E>(
        &mut self,
        operation: Operation,
        way: &Way<E>,
        now: Instant,
    ) -> Refusal {
        self.forget(now);
        let beside_others = self.across.is_some();
        let blames_all = beside_others || self.refuses_all();
        let last_good = self.last_good;
        let (record, is_new) = self.record(operation, now);
        let is_another = is_new || last_good.is_some_and(|good| record.last <= good);
        record.refuse(now);
        let heard = if record.good > 0 { Heard::Refused } else { Heard::Unclear };
        match way {
            Way::Straight => {
                record.in_a_row = record.in_a_row.saturating_add(1);
                if record.doubt.is_none() && record.in_a_row >= record.needed(beside_others) {
                    record.doubt = Some(Doubt::new(now));
                }
                self.kinds = self.kinds.saturating_add(u32::from(is_another));
                if self.all.is_none() && self.kinds >= self.most_kinds {
                    self.all = Some(Doubt::new(now));
                }
            }
            // There is nowhere else to go: as if it had been refused there too.
            Way::Forced => self.heard(operation, Heard::Refused, now),
            // That is held against the one in whose place it came, or its caller, but not against this
            // one: or a caller without permission would make one endpoint after the other look bad.
            Way::Instead(_) => {}
        }
        let blame = match self.doubt(operation) {
            Some(_) if blames_all => Blame::Endpoint,
            Some(_) => Blame::Operation,
            None => Blame::Caller,
        };
        Refusal { heard, blame }
    }

    pub(super) fn good(&mut self, operation: Operation, began: Instant, now: Instant) {
        self.forget(now);
        self.last_good = Some(now);
        (self.kinds, self.across) = (0, None);
        if self.all.take_if(|doubt| doubt.began() <= began).is_some() {
            self.most_kinds = (self.most_kinds * 2).min(MOST_KINDS);
        }
        let record = self.records.iter_mut().find(|record| record.operation == operation);
        if record.is_some_and(|record| record.answer(began)) {
            // It does one thing again: perhaps the others as well.
            let others = self.records.iter_mut().filter_map(|other| other.doubt.as_mut());
            others.for_each(Doubt::hasten);
        }
    }

    pub(super) fn heard(&mut self, operation: Operation, heard: Heard, now: Instant) {
        let record = self.records.iter_mut().find(|record| record.operation == operation);
        match record {
            Some(record) if record.doubt.is_some() => match record.heard(heard, now) {
                Found::Confirmed => self.confirmed(now),
                Found::Unfounded | Found::Nothing => {}
            },
            _ => match self.all.as_mut().map(|doubt| doubt.heard(heard, now)) {
                Some(Found::Unfounded) => {
                    (self.all, self.kinds) = (None, 0);
                    self.most_kinds = (self.most_kinds * 2).min(MOST_KINDS);
                }
                Some(Found::Confirmed | Found::Nothing) | None => {}
            },
        }
    }

    fn confirmed(&mut self, now: Instant) {
        let confirmed = |record: &&Record| record.doubt.as_ref().is_some_and(Doubt::is_confirmed);
        if self.records.iter().filter(confirmed).count() >= 2 {
            self.across.get_or_insert(now);
        }
    }

    pub(super) fn is_no_better(&mut self, operation: Operation) -> bool {
        let never_did = |record: &Record| record.operation == operation && record.good == 0;
        let never_did_anything = self.last_good.is_none() && self.kinds > 0;
        never_did_anything || self.doubt(operation).is_some() || self.records.iter().any(never_did)
    }

    /// The doubt that a call of this operation meets.
    pub(super) fn doubt(&mut self, operation: Operation) -> Option<&mut Doubt> {
        let record = self.records.iter_mut().find(|record| record.operation == operation);
        record.and_then(|record| record.doubt.as_mut()).or(self.all.as_mut())
    }

    /// Its record, and whether that is new. If there is no room, the one goes that was refused
    /// longest ago, of those without a doubt if there are any.
    fn record(&mut self, operation: Operation, now: Instant) -> (&mut Record, bool) {
        let at = self.records.iter().position(|record| record.operation == operation);
        let is_new = at.is_none();
        let at = at.unwrap_or_else(|| {
            if self.records.len() >= OPERATIONS {
                let by_age = |record: &Record| (record.doubt.is_some(), record.last);
                let oldest = (0..self.records.len()).min_by_key(|&at| by_age(&self.records[at]));
                oldest.map(|oldest| self.records.swap_remove(oldest));
            }
            self.records.push(Record::new(operation, now));
            self.records.len() - 1
        });
        (&mut self.records[at], is_new)
    }

    fn forget(&mut self, now: Instant) {
        self.records.retain(|record| match &record.doubt {
            None => now.saturating_duration_since(record.last) < MEMORY,
            Some(doubt) => now.saturating_duration_since(doubt.last()) < DOUBTED,
        });
        self.all.take_if(|doubt| now.saturating_duration_since(doubt.last()) >= DOUBTED);
    }

    pub(super) fn news(&mut self) -> Option<News> {
        let confirmed = |doubt: &Option<Doubt>| doubt.as_ref().is_some_and(Doubt::is_confirmed);
        let refuses =
            confirmed(&self.all) || self.records.iter().any(|record| confirmed(&record.doubt));
        let told = std::mem::replace(&mut self.told, refuses);
        match (told, refuses) {
            (false, true) => Some(News::Refuses),
            (true, false) => Some(News::Answers),
            _ => None,
        }
    }
}
