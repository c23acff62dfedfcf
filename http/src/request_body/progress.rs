//! How far a client has come with the request of one attempt.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a client has done with an attempt's body.
///
/// Nobody can write the head of a request without asking its body whether it has ended or how long it is,
/// for the head says so. So a client that sends each request's body, as hyper does, has sent nothing of a
/// request whose body it never asked.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

const ASKED: u8 = 1;
const POLLED: u8 = 2;

impl Progress {
    /// The body was asked for something, or somebody has the request who may send it without asking.
    pub(crate) fn asked(&self) {
        self.0.fetch_or(ASKED, Ordering::Release);
    }

    pub(super) fn polled(&self) {
        self.0.fetch_or(ASKED | POLLED, Ordering::Release);
    }

    /// Whether anything of the request may have been sent.
    pub(crate) fn is_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Whether a frame of the body was asked for.
    pub(crate) fn is_polled(&self) -> bool {
        self.0.load(Ordering::Acquire) & POLLED != 0
    }
}
