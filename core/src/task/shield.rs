//! The border at which foreign code is called: a panic there becomes a value.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;

use crate::{Error, ErrorKind};

/// Runs code that is not ours. Nothing if it panics; the panic's own message has gone to the panic hook.
pub(crate) fn shielded<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Forgotten and not dropped: a payload's `Drop` may panic as well.
    catch_unwind(AssertUnwindSafe(work)).map_err(std::mem::forget).ok()
}

/// As [`shielded`], for a future.
pub(crate) async fn shielded_future<F: Future>(work: F) -> Option<F::Output> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(std::mem::forget).ok()
}

/// The error that stands for a panic of `what`.
pub(crate) fn panicked(what: &str) -> Error {
    Error::new(
        ErrorKind::Other,
        format!("{what} panicked; the panic's own message stands in the log"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload that panics, on purpose");
        }
    }

    #[test]
    fn the_payload_of_a_panic_does_no_harm_either() {
        assert_eq!(shielded(|| std::panic::panic_any(Bomb)), None::<()>);
        assert_eq!(shielded(|| 7), Some(7));
    }
}
