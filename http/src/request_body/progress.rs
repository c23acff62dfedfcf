//! How far a client has come with the request of one attempt.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use fleetward_core::BoxError;

/// What a client has done with an attempt's body.
///
/// Nobody can write the head of a request without asking its body whether it has ended or how long it is,
/// for the head says so. So a client that sends each request's body, as hyper does, has sent nothing of a
/// request whose body it never asked.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: AtomicU8,
    /// What the body has failed with, if its client only sees a reset stream.
    failure: Mutex<Option<BoxError>>,
}

const ASKED: u8 = 1;
/// Only ever the first word: what has begun cannot be taken back.
const TAKEN_BACK: u8 = 2;

impl Progress {
    /// The body was asked for something, or somebody has the request who may send it without asking.
    /// Whether it may be sent: not if it was taken back.
    pub(crate) fn asked(&self) -> bool {
        self.state.fetch_or(ASKED, Ordering::AcqRel) & TAKEN_BACK == 0
    }

    /// The attempt is given up. Whether nothing of its request was sent, and none will be: a client's
    /// task may be about to send it on another thread.
    pub(crate) fn take_back(&self) -> bool {
        let taken = self.state.compare_exchange(0, TAKEN_BACK, Ordering::AcqRel, Ordering::Acquire);
        taken.map_or_else(|begun| begun & TAKEN_BACK != 0, |_| true)
    }

    /// The body has failed.
    pub(crate) fn fail(&self, error: BoxError) {
        let before = self.failure.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
        drop(before);
    }

    /// What it has failed with. Given out once.
    pub(crate) fn take_failure(&self) -> Option<BoxError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether anything of the request may have been sent.
    pub(crate) fn is_begun(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_is_not_taken_back_and_what_was_taken_back_is_not_sent() {
        let sent = Progress::default();
        assert!(sent.asked() && !sent.take_back() && sent.asked());
        let given_up = Progress::default();
        assert!(given_up.take_back() && !given_up.asked() && !given_up.asked());
        assert!(given_up.take_back());
    }
}
