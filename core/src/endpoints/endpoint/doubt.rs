//! A doubt whether an endpoint can do something, while calls of it go elsewhere.

use std::time::Duration;

use tokio::time::Instant;

/// How calls fare elsewhere is judged by so many.
const BATCH: u32 = 8;
/// A doubt is confirmed when this many of them are answered well.
const CONFIRMS: u32 = 7;
/// With fewer than so many a doubt that was confirmed holds no longer.
const KEEPS: u32 = 4;
/// The number of refusals by endpoints that may be to blame themselves which counts as a clear one.
const UNCLEAR: u32 = 16;
/// An endpoint is tried again after this time, then after twice as long, and so on.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// At most one call in so many that would have gone there tries it.
const SHARE: u32 = 64;
/// Unless none has for so long.
const QUIET: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Doubt {
    began: Instant,
    confirmed: bool,
    /// Of the current batch.
    good: u32,
    refused: u32,
    unclear: u32,
    /// When calls last met it.
    last: Instant,
    wait: Duration,
    tried: Instant,
    /// Calls sent elsewhere since.
    elsewhere: u32,
}

/// What became of a call that went elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Good,
    /// By an endpoint that answers it well at times.
    Refused,
    /// By an endpoint that may be to blame itself.
    Unclear,
}

/// What calls elsewhere have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// They are answered well: it is the endpoint.
    Confirmed,
    /// They are refused too: it is not.
    Unfounded,
}

impl Doubt {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            confirmed: false,
            good: 0,
            refused: 0,
            unclear: 0,
            last: now,
            wait: FIRST_WAIT,
            tried: now,
            elsewhere: 0,
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn last(&self) -> Instant {
        self.last
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether the call that asks is the one that tries it; else it goes elsewhere.
    pub(super) fn lets_try(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.tried);
        let lets = since >= QUIET || since >= self.wait && self.elsewhere >= SHARE;
        if lets {
            (self.tried, self.elsewhere) = (now, 0);
            self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        } else {
            self.elsewhere = self.elsewhere.saturating_add(1);
        }
        self.last = now;
        lets
    }

    /// The next call tries it: the endpoint does another thing again that it did not do.
    pub(super) fn hasten(&mut self) {
        (self.wait, self.elsewhere) = (Duration::ZERO, SHARE);
    }

    /// A call that went elsewhere was answered.
    pub(super) fn heard(&mut self, heard: Heard, now: Instant) -> Found {
        self.last = now;
        match heard {
            Heard::Good => self.good += 1,
            Heard::Refused => self.refused += 1,
            Heard::Unclear => self.unclear += 1,
        }
        let (good, refused) = (self.good, self.refused);
        let found = match self.confirmed {
            false if good >= CONFIRMS => Found::Confirmed,
            false if refused > BATCH - CONFIRMS => Found::Unfounded,
            _ if self.unclear >= UNCLEAR && good < KEEPS => Found::Unfounded,
            true if good + refused >= BATCH && good < KEEPS => Found::Unfounded,
            _ => Found::Nothing,
        };
        self.confirmed |= found == Found::Confirmed;
        if found == Found::Confirmed || good + refused >= BATCH || self.unclear >= UNCLEAR {
            (self.good, self.refused, self.unclear) = (0, 0, 0);
        }
        found
    }
}
