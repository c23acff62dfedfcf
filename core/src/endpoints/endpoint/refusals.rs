//! What an endpoint refuses that others do.
//!
//! An error such as "permission denied" may be the caller's fault or the instance's: the wrong program
//! at a re-used address, an old version, an expired credential. One instance's answers cannot tell. So an
//! operation that an endpoint has refused several times in a row is tried elsewhere: each call of it that
//! would have gone to this endpoint goes to another one. If those are answered well there, the endpoint
//! is to blame, and keeps losing these calls but for one now and then that tries it again. If they are
//! refused there too, the callers are to blame, and the endpoint gets its calls back.
//!
//! This compares the very calls that would have gone here, so it does not matter how they are spread: a
//! caller without permission whose calls all go to one instance by their key is refused elsewhere too.
//!
//! An endpoint that refuses operation after operation without a good answer in between is kept from
//! operations that it has not been asked for as well.

mod finding;
mod flags;
mod record;
mod records;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::finding::News;
pub(super) use self::finding::{Blame, Refusal};
pub(super) use self::flags::Flags;
use self::records::Records;
use super::doubt::Heard;
use super::way::Way;
use crate::endpoints::Operation;

/// An endpoint that has refused several operations, and answered none well, for so long is no
/// instance of the service.
const GOES_ACROSS: Duration = Duration::from_secs(5);

/// The operations of one endpoint that were refused of late; mostly none.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<Box<Records>>>);

impl Refusals {
    /// A call was refused that came here by this way.
    pub(super) fn refused<E>(
        &self,
        flags: &Flags,
        operation: Operation,
        way: &Way<E>,
        now: Instant,
    ) -> (Refusal, Option<News>) {
        self.change(flags, |slot| {
            let kept = slot.get_or_insert_with(|| Box::new(Records::new()));
            let refusal = kept.refused(operation, way, now);
            (refusal, kept.news())
        })
    }

    /// A call that began at `began` was answered well.
    pub(super) fn good(
        &self,
        flags: &Flags,
        operation: Operation,
        began: Instant,
        now: Instant,
    ) -> Option<News> {
        self.change(flags, |slot| {
            let kept = slot.as_mut()?;
            kept.good(operation, began, now);
            let news = kept.news();
            if kept.is_empty() {
                *slot = None;
            }
            news
        })
    }

    /// A call that would have come here was answered elsewhere.
    pub(super) fn elsewhere(
        &self,
        flags: &Flags,
        operation: Operation,
        heard: Heard,
        now: Instant,
    ) -> Option<News> {
        self.change(flags, |slot| {
            let kept = slot.as_mut()?;
            kept.heard(operation, heard, now);
            kept.news()
        })
    }

    /// Whether a call that would come here does: there is no doubt, or it is time to try.
    pub(super) fn takes(&self, operation: Operation, now: Instant) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let doubt = kept.as_mut().and_then(|kept| kept.doubt(operation));
        doubt.is_none_or(|doubt| doubt.lets_try(now))
    }

    /// Whether it is no better place for a call of this operation than one that is doubted: it is doubted
    /// itself, or has refused the operation, or several, and never answered well.
    pub(super) fn is_no_better(&self, operation: Operation) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_mut().is_some_and(|kept| kept.is_no_better(operation))
    }

    /// Whether it refuses whatever it is asked, and others do not.
    pub(super) fn go_across(&self, now: Instant) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().is_some_and(|kept| {
            let long = |since| now.saturating_duration_since(since) >= GOES_ACROSS;
            kept.refuses_all() || kept.across.is_some_and(long)
        })
    }

    /// Flags follow what is kept while it is locked: a later change is not overwritten by an earlier one.
    fn change<T>(&self, flags: &Flags, change: impl FnOnce(&mut Option<Box<Records>>) -> T) -> T {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut slot);
        let now = slot.as_ref().map_or(0, |kept| kept.flags());
        flags.set(now);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRAIGHT: Way<()> = Way::Straight;

    fn operation(number: u32) -> Operation {
        Operation::named(&number.to_le_bytes())
    }

    #[test]
    fn a_caller_who_asks_for_ever_new_things_leaves_little_behind() {
        let (refusals, flags, start) = (Refusals::default(), Flags::default(), Instant::now());
        for number in 0..10_000 {
            refusals.refused(&flags, operation(number), &STRAIGHT, start);
        }
        assert!(refusals.0.lock().unwrap().as_ref().unwrap().records.len() <= 32);
        assert!(flags.keeps() && flags.avoided());
        // Nothing is left when it has been silent for long.
        let later = start + Duration::from_secs(1000);
        refusals.good(&flags, operation(0), later, later);
        assert!(refusals.0.lock().unwrap().is_none());
        assert!(!flags.keeps() && !flags.avoided());
    }

    #[test]
    fn a_doubt_about_one_operation_is_kept_while_others_come_and_go() {
        let (refusals, flags, now) = (Refusals::default(), Flags::default(), Instant::now());
        for _ in 0..5 {
            refusals.refused(&flags, operation(0), &STRAIGHT, now);
        }
        assert!(!refusals.takes(operation(0), now));
        for number in 1..1000 {
            refusals.refused(&flags, operation(number), &STRAIGHT, now);
            refusals.good(&flags, operation(1_000_000), now, now);
        }
        assert!(!refusals.takes(operation(0), now));
        assert!(refusals.takes(operation(7), now));
    }

    #[test]
    fn an_answer_to_a_call_from_before_a_doubt_does_not_end_it() {
        let (refusals, flags, start) = (Refusals::default(), Flags::default(), Instant::now());
        let later = start + Duration::from_millis(10);
        for _ in 0..5 {
            refusals.refused(&flags, operation(0), &STRAIGHT, later);
        }
        refusals.good(&flags, operation(0), start, later);
        assert!(!refusals.takes(operation(0), later));
        refusals.good(&flags, operation(0), later, later);
        assert!(refusals.takes(operation(0), later));
    }

    #[test]
    fn each_change_is_told_once() {
        let (refusals, flags, now) = (Refusals::default(), Flags::default(), Instant::now());
        let mut news = Vec::new();
        for _ in 0..20 {
            news.extend(refusals.refused(&flags, operation(0), &STRAIGHT, now).1);
            news.extend(refusals.elsewhere(&flags, operation(0), Heard::Good, now));
        }
        assert_eq!(news, [News::Refuses]);
        assert_eq!(refusals.good(&flags, operation(0), now, now), Some(News::Answers));
    }
}
