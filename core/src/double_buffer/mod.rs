//! A long list that readers share and that changes often.

mod edits;

use std::sync::Arc;

pub(crate) use self::edits::{Edit, apply};

/// A list that is published whole.
pub(crate) trait Buffered: Clone {
    /// A change of one item. Changes are sorted by item, each item once.
    type Change;

    fn apply(&mut self, changes: &[Self::Change]);

    fn len(&self) -> usize;
}

/// Two copies of a list: one is published, the other, which was published before, waits to be the next.
///
/// What readers hold is never changed. But a copy of a hundred thousand shared entries costs milliseconds: one
/// reference count after the other, each somewhere else in memory. So the copy published before is brought up to
/// date once its last reader is gone, which is mostly at once; if somebody still reads it, the next one is a copy.
#[derive(Debug)]
pub(crate) struct DoubleBuffer<T: Buffered> {
    published: Arc<T>,
    spare: Option<T>,
    /// What was published before, and what it lacks.
    behind: Option<(Arc<T>, Vec<T::Change>)>,
}

impl<T: Buffered + Default> Default for DoubleBuffer<T> {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl<T: Buffered> DoubleBuffer<T> {
    pub(crate) fn new(published: Arc<T>) -> Self {
        Self { published, spare: None, behind: None }
    }

    /// The list as it was published last.
    pub(crate) fn published(&self) -> &Arc<T> {
        &self.published
    }

    /// The list with these changes, which counts as published from now on.
    pub(crate) fn next(&mut self, changes: Vec<T::Change>) -> Arc<T> {
        if changes.is_empty() {
            return self.published.clone();
        }
        self.catch_up();
        let mut next = self.spare.take().unwrap_or_else(|| T::clone(&self.published));
        next.apply(&changes);
        // When nearly all has changed, a copy costs less than what would have to be kept.
        let worth_keeping = changes.len() < next.len() / 2;
        let before = std::mem::replace(&mut self.published, Arc::new(next));
        self.behind = worth_keeping.then_some((before, changes));
        self.published.clone()
    }

    /// Brings the copy published before up to date, unless somebody reads it. Whether nothing is left to do: else it
    /// is tried again with the next change, or [given up](Self::give_up).
    pub(crate) fn catch_up(&mut self) -> bool {
        let Some((before, changes)) = self.behind.take() else { return true };
        match Arc::try_unwrap(before) {
            Ok(mut list) => {
                list.apply(&changes);
                self.spare = Some(list);
            }
            Err(shared) => self.behind = Some((shared, changes)),
        }
        self.behind.is_none()
    }

    /// Keeps nothing alive that has left the list: the next one is a copy.
    pub(crate) fn give_up(&mut self) {
        self.spare = None;
        self.behind = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Buffered for BTreeSet<u8> {
        type Change = (u8, bool);

        fn apply(&mut self, changes: &[(u8, bool)]) {
            for (item, is_in) in changes {
                match is_in {
                    true => self.insert(*item),
                    false => self.remove(item),
                };
            }
        }

        fn len(&self) -> usize {
            self.len()
        }
    }

    proptest! {
        /// Whatever readers hold and for how long, and whether somebody catches up or gives up in between.
        #[test]
        fn what_is_published_is_right_and_never_changes(
            steps in proptest::collection::vec(
                (proptest::collection::btree_map(0..30_u8, any::<bool>(), 0..9), 0..4_usize, 0..3_u8),
                1..40,
            ),
        ) {
            let mut buffer = DoubleBuffer::<BTreeSet<u8>>::default();
            let mut expected = BTreeSet::new();
            let mut held = Vec::new();
            for (changes, released, then) in steps {
                let changes: Vec<_> = changes.into_iter().collect();
                expected.apply(&changes);
                let published = buffer.next(changes);
                prop_assert_eq!(&*published, &expected);
                held.push((published, expected.clone()));
                held.drain(..released.min(held.len()));
                match then {
                    0 => drop(buffer.catch_up()),
                    1 => buffer.give_up(),
                    _ => {}
                }
                for (list, before) in &held {
                    prop_assert_eq!(&**list, before);
                }
            }
        }
    }

    #[test]
    fn a_copy_that_nobody_reads_is_used_again() {
        let mut buffer = DoubleBuffer::new(Arc::new((0..100).collect::<BTreeSet<u8>>()));
        drop(buffer.next(vec![(200, true)]));
        assert!(buffer.catch_up() && buffer.spare.is_some());
        let reader = buffer.next(vec![(201, true)]);
        assert!(buffer.catch_up() && buffer.spare.is_some(), "the one before was not read");
        drop(buffer.next(vec![(202, true)]));
        assert!(!buffer.catch_up(), "somebody reads the one before");
        drop(reader);
        assert!(buffer.catch_up());
    }
}
