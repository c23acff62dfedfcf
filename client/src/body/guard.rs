//! An attempt's hold on the request, from its sending to the end of its response.

use std::fmt;
use std::sync::Arc;

use http_body::Body;

use super::log::Log;

/// One attempt's part of the request: whoever holds it can commit the call to this attempt. Dropped, the
/// attempt reads no more of a body that still comes in, and its stream is reset: HTTP/2 alone would
/// go on with the request for as long as the caller does.
pub struct AttemptGuard<B: Body> {
    /// Nothing if the request was whole before it was sent.
    reader: Option<(Arc<Log<B>>, u64)>,
}

impl<B: Body> AttemptGuard<B> {
    pub(super) fn new(reader: Option<(Arc<Log<B>>, u64)>) -> Self {
        Self { reader }
    }

    /// Whether the call is committed to another attempt.
    pub fn is_superseded(&self) -> bool {
        self.reader.as_ref().is_some_and(|(log, id)| log.is_committed_to_another(*id))
    }

    /// A response has begun: no other attempt will be needed. Whoever reads the response holds what is returned
    /// until its end.
    pub fn commit(self) -> Option<Self> {
        let (log, id) = self.reader.as_ref()?;
        log.commit(*id);
        Some(self)
    }

    /// As [`commit`](Self::commit), where the attempt's body alone says for how long it is read: until it is
    /// dropped.
    pub fn release(mut self) {
        if let Some((log, id)) = self.reader.take() {
            log.commit(id);
        }
    }
}

/// The guard of a request without a body that comes in over time.
impl<B: Body> Default for AttemptGuard<B> {
    fn default() -> Self {
        Self { reader: None }
    }
}

impl<B: Body> fmt::Debug for AttemptGuard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptGuard").field("whole", &self.reader.is_none()).finish()
    }
}

impl<B: Body> Drop for AttemptGuard<B> {
    fn drop(&mut self) {
        if let Some((log, id)) = &self.reader {
            log.leave(*id);
        }
    }
}
