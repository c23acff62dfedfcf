//! How much all calls of a client keep for further attempts.

use std::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// A bound on the bytes that all calls of a client keep together for further attempts. Requests of up to 4 KiB are
/// not counted.
#[derive(Debug)]
pub struct ReplayBuffer {
    limit: usize,
    used: AtomicUsize,
}

/// A request of so many bytes is not counted: its caller holds as much, and counting it would have every call touch
/// one line of memory.
const SMALL: usize = 4096;

/// There is no room.
pub(super) struct Full;

impl ReplayBuffer {
    /// One of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Room for so many bytes, until it is dropped; none is needed for few.
    pub(super) fn share(self: &Arc<Self>, bytes: usize) -> Result<Option<Share>, Full> {
        if bytes <= SMALL {
            return Ok(None);
        }
        let mut share = Share { buffer: self.clone(), bytes: 0 };
        share.grow(bytes)?;
        Ok(Some(share))
    }

    /// Room that grows.
    pub(super) fn empty_share(self: &Arc<Self>) -> Share {
        Share { buffer: self.clone(), bytes: 0 }
    }

    /// The number of bytes that are kept now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one call has of the buffer.
pub(super) struct Share {
    buffer: Arc<ReplayBuffer>,
    bytes: usize,
}

impl Share {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let used = self.buffer.used.fetch_add(bytes, Ordering::Relaxed);
        if used.saturating_add(bytes) > self.buffer.limit {
            self.buffer.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Full);
        }
        self.bytes += bytes;
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.buffer.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}
