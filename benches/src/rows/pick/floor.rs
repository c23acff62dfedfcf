//! What a pick can hardly cost less than: bare loops that balance nothing anybody would use.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Cache};

use super::subject::{Subject, with_workers};
use crate::measure::{Contender, Worker};

/// Loads a list and counts, or compares two of its counters.
pub(crate) struct Floor {
    name: &'static str,
    way: for<'a> fn(&'a Floor) -> Worker<'a>,
    list: ArcSwap<Vec<AtomicUsize>>,
    turn: AtomicUsize,
}

type Way = (&'static str, for<'a> fn(&'a Floor) -> Worker<'a>);

const WAYS: [Way; 4] = [
    ("arc-swap load + shared counter", Floor::load_and_count),
    ("cached load + shared counter", Floor::cached_and_count),
    ("cached load + counter of the thread's own", Floor::own_count),
    ("arc-swap load + less of two", Floor::less_of_two),
];

impl Floor {
    /// All of them, over a list of that length.
    pub(crate) fn all(size: usize) -> impl Iterator<Item = Self> {
        WAYS.into_iter().map(move |(name, way)| {
            let counters = (0..size).map(|i| AtomicUsize::new(i % 4)).collect();
            let list = ArcSwap::from_pointee(counters);
            Self { name, way, list, turn: AtomicUsize::new(0) }
        })
    }

    fn load_and_count(&self) -> Worker<'_> {
        Box::new(|times| {
            for _ in 0..times {
                let list = self.list.load();
                black_box(&list[self.turn.fetch_add(1, Ordering::Relaxed) % list.len()]);
            }
        })
    }

    fn cached_and_count(&self) -> Worker<'_> {
        let mut cache = Cache::new(&self.list);
        Box::new(move |times| {
            for _ in 0..times {
                let list = cache.load();
                black_box(&list[self.turn.fetch_add(1, Ordering::Relaxed) % list.len()]);
            }
        })
    }

    /// Nothing is shared: what two threads gain here is what the machine has to give.
    fn own_count(&self) -> Worker<'_> {
        let mut cache = Cache::new(&self.list);
        let mut turn = 0_usize;
        Box::new(move |times| {
            // On the stack, for what two threads' closures hold may lie in one cache line.
            let mut own = turn;
            for _ in 0..times {
                let list: &Arc<Vec<_>> = cache.load();
                own = black_box(own.wrapping_add(1));
                black_box(&list[own % list.len()]);
            }
            turn = own;
        })
    }

    fn less_of_two(&self) -> Worker<'_> {
        Box::new(|times| {
            for _ in 0..times {
                let list = self.list.load();
                let [a, b] = [(); 2].map(|()| &list[fastrand::usize(..list.len())]);
                let less = a.load(Ordering::Relaxed) <= b.load(Ordering::Relaxed);
                black_box(if less { a } else { b });
            }
        })
    }
}

impl Subject for Floor {
    fn name(&self) -> &str {
        self.name
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        with_workers(self.name(), threads, || (self.way)(self))
    }
}
