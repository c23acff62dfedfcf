//! What is measured, ours or another's.

use crate::go::{Go, GoPeer};
use crate::measure::{Contender, Worker};

/// Something that picks.
pub(crate) trait Subject {
    fn name(&self) -> &str;

    /// The name of what of ours does the same, if this is a peer.
    fn beside(&self) -> Option<&str> {
        None
    }

    /// Whether it bears so many threads at once.
    fn bears(&self, threads: usize) -> bool {
        let _ = threads;
        true
    }

    /// With so many threads at once.
    fn contender(&self, threads: usize) -> Contender<'_>;
}

/// What picks from any number of threads in this process.
pub(crate) fn with_workers<'a>(
    name: &str,
    threads: usize,
    worker: impl Fn() -> Worker<'a>,
) -> Contender<'a> {
    if threads == 1 {
        return Contender::new(name, worker());
    }
    Contender::on_threads(name, (0..threads).map(|_| worker()).collect())
}

/// A balancer of Go's, in its own process.
pub(crate) struct OfGo {
    pub(crate) go: Go,
    pub(crate) peer: &'static GoPeer,
    pub(crate) size: usize,
}

impl Subject for OfGo {
    fn name(&self) -> &str {
        self.peer.name
    }

    fn beside(&self) -> Option<&str> {
        Some(self.peer.beside)
    }

    fn bears(&self, threads: usize) -> bool {
        threads <= self.peer.max_threads
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        self.go.contender(self.peer.name, self.peer.id, self.size, threads)
    }
}
