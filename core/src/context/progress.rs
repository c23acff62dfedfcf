//! How far an attempt has come.

use std::sync::atomic::{AtomicU8, Ordering};

/// How far an attempt has come, as far as the balancers under it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reached {
    /// No balancer has seen it.
    Nothing,
    /// It waits for an endpoint.
    Waiting,
    /// It has an endpoint, whose service is not yet ready for it.
    Picked,
    /// Some endpoint's service has been called. Layers in between may make more than one call.
    Called,
    /// It was given up before it left, and is not to leave any more.
    TakenBack,
}

impl Reached {
    const ALL: [Self; 5] =
        [Self::Nothing, Self::Waiting, Self::Picked, Self::Called, Self::TakenBack];
}

/// A [`Reached`] that the attempt and whoever gives it up share, on two threads if a layer moves the
/// call to another task: it leaves or is taken back, and never both.
#[derive(Debug)]
pub(crate) struct Progress(AtomicU8);

impl Default for Progress {
    fn default() -> Self {
        Self(AtomicU8::new(Reached::Nothing as u8))
    }
}

impl Progress {
    #[inline]
    pub(crate) fn reached(&self) -> Reached {
        let now = usize::from(self.0.load(Ordering::Acquire));
        Reached::ALL.get(now).copied().unwrap_or(Reached::Called)
    }

    /// Goes on, unless it has left or was taken back. What it had reached before.
    #[inline]
    pub(crate) fn goes_on(&self, to: Reached) -> Reached {
        let mut before = self.reached();
        while !matches!(before, Reached::Called | Reached::TakenBack) {
            let (old, new) = (before as u8, to as u8);
            match self.0.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(_) => before = self.reached(),
            }
        }
        before
    }

    /// Takes back what has an endpoint or waits for one. Whether it never leaves.
    pub(crate) fn take_back(&self) -> bool {
        match self.reached() {
            // A layer in between may have sent it elsewhere.
            Reached::Nothing => false,
            _ => self.goes_on(Reached::TakenBack) != Reached::Called,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_not_taken_back_and_what_was_taken_back_does_not_leave() {
        for (steps, taken) in [
            (&[][..], false),
            (&[Reached::Waiting], true),
            (&[Reached::Waiting, Reached::Picked], true),
            (&[Reached::Picked, Reached::Called], false),
            (&[Reached::Picked, Reached::Called, Reached::Waiting], false),
        ] {
            let progress = Progress::default();
            for step in steps {
                progress.goes_on(*step);
            }
            assert_eq!(progress.take_back(), taken, "{steps:?}");
            let before = progress.goes_on(Reached::Called);
            assert_eq!(before == Reached::TakenBack, taken, "{steps:?}");
        }
    }
}
