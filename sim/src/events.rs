//! What happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Nanos;

/// Events in the order of their times; those of the same time in the order in which they were added,
/// so that a run does not depend on how the heap is laid out.
#[derive(Debug)]
pub(crate) struct Events<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<E> {
    key: (Nanos, u64),
    event: E,
}

impl<E> Events<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), added: 0 }
    }

    pub(crate) fn add(&mut self, at: Nanos, event: E) {
        self.heap.push(Reverse(Entry { key: (at, self.added), event }));
        self.added += 1;
    }

    pub(crate) fn next(&mut self) -> Option<(Nanos, E)> {
        self.heap.pop().map(|Reverse(entry)| (entry.key.0, entry.event))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_time_as_they_were_added() {
        let mut events = Events::new();
        let times = [5, 1, 5, 3, 1, 5, 0];
        for (number, at) in times.into_iter().enumerate() {
            events.add(at, number);
        }
        let order: Vec<_> = std::iter::from_fn(|| events.next()).collect();
        assert_eq!(order, [(0, 6), (1, 1), (1, 4), (3, 3), (5, 0), (5, 2), (5, 5)]);
    }
}
