//! How long endpoints may be used without the registry's word.

use std::time::Duration;

use tokio::time::Instant;

use super::set::Unseen;
use crate::{Error, ErrorKind, Freshness, Snapshot};

/// What the registry said last, and since when it is in error.
pub(super) struct Validity {
    /// After how long in error the endpoints are given up.
    timeout: Option<Duration>,
    pub(super) freshness: Freshness,
    pub(super) unseen: Unseen,
    /// The first error of the current trouble and when it makes the endpoints invalid.
    deadline: Option<(Instant, Error)>,
    /// The endpoints were given up for this.
    pub(super) invalidated: Option<Error>,
}

impl Validity {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            freshness: Freshness::Pending { error: None },
            unseen: Unseen::default(),
            deadline: None,
            invalidated: None,
        }
    }

    /// Takes in what the registry says. Whether its instances count.
    pub(super) fn take_in(&mut self, snapshot: &Snapshot) -> bool {
        self.freshness = snapshot.freshness.clone();
        self.unseen = Unseen::of(snapshot);
        match &snapshot.freshness {
            Freshness::Stale { error, .. } if error.kind() != ErrorKind::Implausible => {
                if let Some(timeout) = self.timeout
                    && self.deadline.is_none()
                    && self.invalidated.is_none()
                {
                    // A sum beyond the clock's range is never.
                    let at = Instant::now().checked_add(timeout);
                    self.deadline = at.map(|at| (at, error.clone()));
                }
            }
            _ => {
                self.deadline = None;
                self.invalidated = None;
            }
        }
        self.invalidated.is_none()
    }

    /// When to [`expire`](Self::expire).
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.deadline.as_ref().map(|(at, _)| *at)
    }

    /// Whether the endpoints are to be given up, the time being over.
    pub(super) fn expire(&mut self) -> bool {
        let Some((_, error)) = self.deadline.take() else { return false };
        self.invalidated = Some(error);
        true
    }

    /// What follows the registry has panicked.
    pub(super) fn panicked(&mut self, error: Error) {
        self.freshness = match std::mem::replace(&mut self.freshness, Freshness::Fresh) {
            Freshness::Pending { .. } => Freshness::Pending { error: Some(error) },
            Freshness::Stale { since, .. } => Freshness::Stale { since, error },
            Freshness::Fresh => Freshness::Stale { since: Instant::now(), error },
        };
    }
}
