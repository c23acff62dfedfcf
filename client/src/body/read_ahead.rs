//! How much of a request's body is read at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::unconstrained;

/// What a client may read of a body before it sends the first attempt.
///
/// A body is the caller's code, and may be ready without end. Bytes are bounded so that no more is
/// kept than was agreed; frames are bounded so that one poll stays short, for a frame may be empty.

#[derive(Debug)]
pub(super) struct ReadAhead {
    limit: usize,
    bytes: usize,
    frames: usize,
    /// How often more a frame may be asked for that was not there.
    extra: usize,
}

/// How many frames are read in one poll.
const FRAMES: usize = 1024;

/// How often a body is asked once more that has just said that it has nothing.
const EXTRA: usize = 32;

impl ReadAhead {
    /// Reads on until more than `limit` bytes are there.
    pub(super) fn up_to(limit: usize) -> Self {
        Self { limit, bytes: 0, frames: 0, extra: EXTRA }
    }

    /// Whether one more frame may be read.
    pub(super) fn goes_on(&self) -> bool {
        self.bytes <= self.limit && self.frames < FRAMES
    }

    /// Asks for a frame without waiting for one; whoever reads on asks again with its own waker.
    ///
    /// `Pending` need not mean that nothing is there. tokio's channels say so too when the task has used up
    /// its budget, be it by other calls; and a body may only let others go first, and have woken its task
    /// already. So it is asked once more without a budget, and again while it has woken its task.
    pub(super) fn poll<T>(
        &mut self,
        mut frame: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let first = frame(&mut Context::from_waker(Waker::noop()));
        if first.is_ready() || self.extra == 0 {
            return first;
        }
        let again = Arc::new(Again(AtomicBool::new(true)));
        let waker = Waker::from(again.clone());
        while self.extra > 0 && again.0.swap(false, Ordering::Acquire) {
            self.extra -= 1;
            let asked = pin!(unconstrained(poll_fn(&mut frame)));
            if let Poll::Ready(frame) = asked.poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(frame);
            }
        }
        Poll::Pending
    }

    /// A frame with so many bytes was read.
    pub(super) fn took(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.frames += 1;
    }

    /// How many bytes were read.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Whether a body has asked to be polled again.
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets others go first each time before it is ready.
    fn polite() -> impl FnMut(&mut Context<'_>) -> Poll<()> {
        let mut ready = true;
        move |cx| {
            ready = !ready;
            cx.waker().wake_by_ref();
            if ready { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    #[tokio::test]
    async fn what_is_there_is_read_although_the_task_s_budget_is_used_up() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send("one").unwrap();
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::cooperative(std::future::ready(())).await;
        }
        let mut ahead = ReadAhead::up_to(0);
        assert_eq!(ahead.poll(|cx| receiver.poll_recv(cx)), Poll::Ready(Some("one")));
        assert_eq!(ahead.poll(|cx| receiver.poll_recv(cx)), Poll::Pending);
    }

    #[test]
    fn what_lets_others_go_first_is_asked_again_but_not_without_end() {
        let (mut ahead, mut polite) = (ReadAhead::up_to(0), polite());
        let ready = (0..1000).filter(|_| ahead.poll(&mut polite).is_ready()).count();
        assert_eq!(ready, EXTRA + (1000 - EXTRA) / 2);
        let mut polls = 0;
        let never = ReadAhead::up_to(0).poll(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((never, polls), (Poll::Pending, 1 + EXTRA));
    }
}
