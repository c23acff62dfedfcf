//! An attempt's hold on the request, from its sending to the end of its response.

use std::sync::Arc;

use super::log::Log;

/// One attempt's part of the request: who holds it can commit the call to this attempt. Dropped, the
/// attempt reads no more of a body that still comes in, and its stream is reset: HTTP/2 alone would
/// go on with the request for as long as the caller does.
#[derive(Default)]
pub(crate) struct Sent {
    /// `None` if the request was whole before it was sent.
    reader: Option<(Arc<Log>, u64)>,
}

impl Sent {
    pub(super) fn new(reader: Option<(Arc<Log>, u64)>) -> Self {
        Self { reader }
    }

    /// Whether the call is committed to another attempt.
    pub(in crate::channel) fn is_superseded(&self) -> bool {
        self.reader.as_ref().is_some_and(|(log, id)| log.is_committed_to_another(*id))
    }

    /// A response has begun: no other attempt will be needed. Whoever reads the response holds what is returned
    /// until its end.
    pub(in crate::channel) fn commit(self) -> Option<Self> {
        let (log, id) = self.reader.as_ref()?;
        log.commit(*id);
        Some(self)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some((log, id)) = &self.reader {
            log.leave(*id);
        }
    }
}
