//! A future that is dropped half way.

use std::future::poll_fn;
use std::task::Poll;

/// Polls the future so many times and drops it where it stands; what it gave if it was done before.
///
/// Called with 0, 1, 2 and so on it drops the future at each of its awaits.
pub(crate) async fn cut_short<F: Future>(future: F, polls: u16) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    let output = poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    output.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_dropped_at_each_await() {
        use std::sync::atomic::{AtomicU16, Ordering};
        let reached = AtomicU16::new(0);
        let future = || async {
            for _ in 0..3 {
                reached.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        for (polls, expected) in [(0, 0), (1, 1), (2, 2), (3, 3)] {
            reached.store(0, Ordering::Relaxed);
            assert!(cut_short(future(), polls).await.is_none());
            assert_eq!(reached.load(Ordering::Relaxed), expected);
        }
        assert!(cut_short(future(), 4).await.is_some());
    }
}
