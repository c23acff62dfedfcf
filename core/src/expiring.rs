//! Tells a call that took too long from one whose caller has gone away.

use std::cell::Cell;

thread_local! {
    static EXPIRING: Cell<bool> = const { Cell::new(false) };
}

/// Drops a call whose deadline has passed: `expiring(|| drop(call))`.
///
/// To an endpoint a dropped call is a caller that has gone away, which says nothing about the
/// instance. Who drops a call because the *instance* took too long says so by dropping it in here:
/// then it counts as a failure of the instance. [`Retry`](crate::Retry) does so for its own
/// deadlines; a timeout of one's own around [`Balanced`](crate::Balanced) may.
pub fn expiring<T>(drop: impl FnOnce() -> T) -> T {
    let _reset = Reset(EXPIRING.replace(true));
    drop()
}

/// Whether this runs within [`expiring`].
pub(crate) fn is_expiring() -> bool {
    EXPIRING.get()
}

/// Also when `drop` panics.
struct Reset(bool);

impl Drop for Reset {
    fn drop(&mut self) {
        EXPIRING.set(self.0);
    }
}
