//! A stream that is open.

use std::pin::Pin;
use std::task::{Context, Poll};

use h2::RecvStream;
use http::{Extensions, Response};

use crate::body::Incoming;
use crate::error::Lost;
use crate::slots::Slot;
use crate::upload::Upload;

/// A stream that is open, and what lives as long.
#[derive(Debug)]
pub(crate) struct Stream {
    response: h2::client::ResponseFuture,
    upload: Option<Upload>,
    slot: Slot,
    /// The request's, whose memory the response's can have.
    extensions: Extensions,
    /// How often the connection had been polled.
    opened: u64,
}

/// What h2 answers.
pub(crate) type Answer = Result<Response<RecvStream>, h2::Error>;

impl Stream {
    pub(crate) fn new(
        response: h2::client::ResponseFuture,
        upload: Option<Upload>,
        slot: Slot,
        extensions: Extensions,
    ) -> Self {
        let opened = slot.slots().resets.polls();
        Self { response, upload, slot, extensions, opened }
    }

    pub(crate) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.response).poll(cx)
    }

    /// The response to the caller, and what it may keep its extensions in.
    pub(crate) fn begin(self, answer: Answer) -> Result<(Response<Incoming>, Extensions), Lost> {
        let Self { slot, upload, extensions, .. } = self;
        match answer {
            Ok(response) => {
                if let Some(reads) = &slot.slots().reads {
                    reads.note(0);
                }
                Ok((response.map(|body| Incoming::new(body, slot, upload)), extensions))
            }
            Err(error) => Err(Lost::stream(error, slot.slots())),
        }
    }

    /// Resets the stream: at once if its head is on the wire, else later, by the reset queue.
    pub(crate) fn give_up(self) {
        let slots = self.slot.slots().clone();
        if slots.resets.is_unsent(self.opened) {
            slots.resets.keep(Box::new(self));
        }
    }
}
