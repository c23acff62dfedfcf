//! Whether a call sends a further attempt, and when.

use tokio::time::Instant;

/// What a call is going to do. It begins with [`Due`](Self::Due), and ends when an attempt succeeds, or
/// when one fails and nothing is planned or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// An attempt is due.
    Due(Kind),
    /// One is due then. Those under way may change that before.
    At(Instant, Kind),
    /// None is planned. Those under way may be followed by another one.
    Open,
    /// None follows, whatever becomes of those under way.
    Closed,
}

/// Why an attempt is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the first one of its call.
    First,
    /// One has failed. The budget has allowed it.
    Retry,
    /// Those under way take long, or one of them has failed. The budget is asked when it is sent.
    Hedge,
    /// It takes the place of one that never left, so that it does not count.
    Replacement,
}

/// What changes a plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// An attempt was sent. A hedge is to follow at this time, if one may.
    Sent { hedge: Option<Instant> },
    /// One was sent, and the request cannot be sent another time.
    SentOnce,
    /// One came back that never left, and is to be replaced.
    Unsent,
    /// One failed, and another one may follow: at this time, or at once.
    Failed { at: Option<Instant>, kind: Kind },
    /// One failed that was the last that may be sent.
    Exhausted,
    /// Nothing may follow: the budget is spent, the server or the deadline forbids it, another
    /// attempt has gone too far.
    Stopped,
}

impl Plan {
    #[inline]
    pub(super) fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Closed, _) | (_, Event::Stopped | Event::SentOnce) => Self::Closed,
            (_, Event::Sent { hedge: Some(at) }) => Self::At(at, Kind::Hedge),
            (_, Event::Sent { hedge: None } | Event::Exhausted) => Self::Open,
            (_, Event::Unsent) => Self::Due(Kind::Replacement),
            (_, Event::Failed { at: None, kind }) => Self::Due(kind),
            (_, Event::Failed { at: Some(at), kind }) => Self::At(at, kind),
        }
    }

    /// The attempt that is to be sent now.
    #[inline]
    pub(super) fn due(self, now: Instant) -> Option<Kind> {
        match self {
            Self::Due(kind) => Some(kind),
            Self::At(at, kind) if at <= now => Some(kind),
            Self::At(..) | Self::Open | Self::Closed => None,
        }
    }

    /// When the next attempt is sent, if it is not at once.
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::At(at, _) => Some(at),
            Self::Due(_) | Self::Open | Self::Closed => None,
        }
    }

    pub(super) fn is_closed(self) -> bool {
        self == Self::Closed
    }

    /// Whether the budget has allowed what is planned.
    pub(super) fn is_paid(self) -> bool {
        matches!(self, Self::Due(Kind::Retry) | Self::At(_, Kind::Retry))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table() {
        use Event::{Exhausted, Failed, Sent, SentOnce, Stopped, Unsent};
        use Kind::{First, Hedge, Replacement, Retry};
        use Plan::{At, Closed, Due, Open};

        let soon = Instant::now();
        let later = soon + Duration::from_secs(1);
        let retry = |at| Failed { at, kind: Retry };
        let events = [
            Sent { hedge: None },
            Sent { hedge: Some(later) },
            SentOnce,
            Unsent,
            retry(None),
            retry(Some(later)),
            Failed { at: None, kind: Hedge },
            Exhausted,
            Stopped,
        ];
        // What comes of each event, in this order.
        let any = [
            Open,
            At(later, Hedge),
            Closed,
            Due(Replacement),
            Due(Retry),
            At(later, Retry),
            Due(Hedge),
            Open,
            Closed,
        ];
        for (from, to) in [
            (Due(First), any),
            (Due(Retry), any),
            (Due(Hedge), any),
            (Due(Replacement), any),
            (At(soon, Retry), any),
            (At(soon, Hedge), any),
            (Open, any),
            (Closed, [Closed; 9]),
        ] {
            assert_eq!(events.map(|event| from.after(event)), to, "from {from:?}");
        }
    }

    #[test]
    fn an_attempt_is_due_at_its_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for (plan, due, due_later) in [
            (Plan::Due(Kind::First), Some(Kind::First), Some(Kind::First)),
            (Plan::At(later, Kind::Retry), None, Some(Kind::Retry)),
            (Plan::Open, None, None),
            (Plan::Closed, None, None),
        ] {
            assert_eq!((plan.due(now), plan.due(later)), (due, due_later), "{plan:?}");
        }
    }
}
