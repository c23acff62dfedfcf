//! Bodies, wakers and bytes that come back to the log, block or panic where they must not matter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Wake;
use std::thread;
use std::time::Duration;

use futures::stream;
use http_body_util::StreamBody;

use super::*;
use crate::body::tests::Failed;

type Boxed = http_body_util::combinators::UnsyncBoxBody<Bytes, Failed>;

/// A freeze fails a test instead of hanging it.
fn unfrozen(test: impl FnOnce() + Send + 'static) {
    let (done, over) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    let frozen = over.recv_timeout(Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!frozen, "the thread is frozen");
    thread.join().unwrap();
}

/// What a body gives when it is polled.
type Given = Poll<Option<Result<Frame<Bytes>, Failed>>>;

fn log(body: impl FnMut(&mut Context<'_>) -> Given + Send + 'static) -> Arc<Log<Boxed>> {
    log_up_to(1 << 20, body)
}

fn log_up_to(
    limit: usize,
    body: impl FnMut(&mut Context<'_>) -> Given + Send + 'static,
) -> Arc<Log<Boxed>> {
    let body = Boxed::new(StreamBody::new(stream::poll_fn(body)));
    Log::new(VecDeque::new(), body, limit, &Arc::new(ReplayBuffer::new(1 << 20)))
}

/// Where a body finds the log that it is in.
type Home = Arc<OnceLock<Arc<Log<Boxed>>>>;

fn data(text: &'static str) -> Given {
    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
}

fn text(polled: Polled<Failed>) -> Bytes {
    let Poll::Ready(Some(Ok(frame))) = polled else { panic!("no frame: {polled:?}") };
    frame.into_data().unwrap()
}

fn failure(polled: Polled<Failed>) -> AttemptError<Failed> {
    let Poll::Ready(Some(Err(error))) = polled else { panic!("no error: {polled:?}") };
    error
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn polled(log: &Log<Boxed>, reader: u64, at: usize) -> Polled<Failed> {
    log.poll_frame(reader, at, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_reader_is_not_held_up_by_another_that_polls_and_hears_of_what_came() {
    unfrozen(|| {
        let (go, gone) = mpsc::channel::<()>();
        let (tell, began) = mpsc::channel();
        let mut frames = vec![data("two"), data("one")];
        let log = log(move |_| {
            tell.send(()).unwrap();
            gone.recv().unwrap();
            frames.pop().unwrap()
        });
        let (first, second) = (log.reader().unwrap(), log.reader().unwrap());
        let other = log.clone();
        let thread = thread::spawn(move || text(polled(&other, first, 0)));
        began.recv().unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let waits = log.poll_frame(second, 0, &mut Context::from_waker(&waker));
        assert!(waits.is_pending());
        go.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), "one");
        assert!(woken.0.load(Ordering::SeqCst), "nobody told the other reader");
        assert_eq!(text(polled(&log, second, 0)), "one");
        go.send(()).unwrap();
        assert_eq!(text(polled(&log, second, 1)), "two");
    });
}

#[test]
fn a_body_may_end_its_own_call_while_it_is_polled() {
    for gives in [Some("one"), None] {
        unfrozen(move || {
            let home = Home::default();
            let log = log({
                let home = home.clone();
                let held = OnDrop({
                    let home = home.clone();
                    // Comes back once more.
                    move || home.get().unwrap().leave(1)
                });
                move |_| {
                    let _held = &held;
                    home.get().unwrap().leave(1);
                    gives.map_or(Poll::Pending, data)
                }
            });
            home.set(log.clone()).ok().unwrap();
            let reader = log.reader().unwrap();
            log.commit(reader);
            assert!(matches!(failure(polled(&log, reader, 0)), AttemptError::Cancelled(_)));
            // The body is gone: only this test and its cell are left.
            assert_eq!(Arc::strong_count(&home), 1);
        });
    }
}

#[test]
fn what_a_reader_reads_that_is_superseded_meanwhile_goes_to_the_one_that_is_not() {
    unfrozen(|| {
        let home = Home::default();
        let mut frames = vec![data("two"), data("one")];
        let log = log({
            let home = home.clone();
            move |_| {
                home.get().unwrap().commit(2);
                frames.pop().unwrap_or(Poll::Ready(None))
            }
        });
        home.set(log.clone()).ok().unwrap();
        let (first, second) = (log.reader().unwrap(), log.reader().unwrap());
        assert!(matches!(failure(polled(&log, first, 0)), AttemptError::Cancelled(_)));
        assert_eq!(text(polled(&log, second, 0)), "one");
        assert_eq!(text(polled(&log, second, 1)), "two");
        assert!(matches!(polled(&log, second, 2), Poll::Ready(None)));
    });
}

/// The second reader finds the body away; then the first is superseded, and is the one that the body woke.
#[test]
fn a_wake_that_only_a_superseded_reader_got_is_passed_on() {
    unfrozen(|| {
        let home = Home::default();
        let woken = Arc::new(Woken::default());
        let mut polls = 0;
        let log = log({
            let (home, waker) = (home.clone(), Waker::from(woken.clone()));
            move |cx| {
                polls += 1;
                if polls > 1 {
                    return data("one");
                }
                let log = home.get().unwrap();
                cx.waker().wake_by_ref();
                log.commit(2);
                assert!(log.poll_frame(2, 0, &mut Context::from_waker(&waker)).is_pending());
                Poll::Pending
            }
        });
        home.set(log.clone()).ok().unwrap();
        let (first, second) = (log.reader().unwrap(), log.reader().unwrap());
        assert!(matches!(failure(polled(&log, first, 0)), AttemptError::Cancelled(_)));
        assert!(woken.0.load(Ordering::SeqCst), "nobody told the reader that is left");
        assert_eq!(text(polled(&log, second, 0)), "one");
    });
}

#[test]
fn what_is_too_much_to_keep_is_not_lost_with_the_attempt_that_read_it() {
    unfrozen(|| {
        let home = Home::default();
        let mut frames = vec![data("too long"), data("a")];
        let log = log_up_to(4, {
            let home = home.clone();
            move |_| {
                let frame = frames.pop().unwrap_or(Poll::Ready(None));
                if frames.is_empty() {
                    home.get().unwrap().leave(1);
                }
                frame
            }
        });
        home.set(log.clone()).ok().unwrap();
        let first = log.reader().unwrap();
        assert_eq!(text(polled(&log, first, 0)), "a");
        assert!(matches!(failure(polled(&log, first, 1)), AttemptError::Cancelled(_)));
        let second = log.reader().unwrap();
        assert_eq!(text(polled(&log, second, 0)), "a");
        assert!(log.is_committed());
        assert_eq!(text(polled(&log, second, 1)), "too long");
        assert!(matches!(polled(&log, second, 2), Poll::Ready(None)));
    });
}

#[test]
fn a_body_that_panics_fails_every_reader() {
    unfrozen(|| {
        let home = Home::default();
        let woken = Arc::new(Woken::default());
        let log = log({
            let (home, waker) = (home.clone(), Waker::from(woken.clone()));
            move |_| {
                let log = home.get().unwrap();
                assert!(log.poll_frame(2, 0, &mut Context::from_waker(&waker)).is_pending());
                panic!("on purpose")
            }
        });
        home.set(log.clone()).ok().unwrap();
        let (first, second) = (log.reader().unwrap(), log.reader().unwrap());
        assert!(catch_unwind(AssertUnwindSafe(|| polled(&log, first, 0))).is_err());
        assert!(woken.0.load(Ordering::SeqCst), "nobody told the other reader");
        assert_eq!(failure(polled(&log, second, 0)), AttemptError::Panicked);
        assert_eq!(failure(polled(&log, first, 0)), AttemptError::Panicked);
    });
}

/// Bytes of the caller's own making have a `Drop` of the caller's own making.
struct Owner(Home, Arc<AtomicUsize>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        b"mine"
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.get().unwrap().is_committed();
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn frames_are_dropped_without_the_lock() {
    unfrozen(|| {
        let (home, dropped) = (Home::default(), Arc::new(AtomicUsize::new(0)));
        let log = log({
            let (home, dropped) = (home.clone(), dropped.clone());
            move |_| {
                let bytes = Bytes::from_owner(Owner(home.clone(), dropped.clone()));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        });
        home.set(log.clone()).ok().unwrap();
        let (first, second) = (log.reader().unwrap(), log.reader().unwrap());
        for at in 0..3 {
            assert_eq!(text(polled(&log, first, at)), "mine");
        }
        log.commit(second);
        // Skips two, has one.
        assert_eq!(text(polled(&log, second, 2)), "mine");
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        log.leave(second);
        assert!(matches!(failure(polled(&log, second, 3)), AttemptError::Cancelled(_)));
    });
}

#[test]
fn frames_that_are_kept_are_dropped_without_the_lock_at_the_end() {
    unfrozen(|| {
        let (home, dropped) = (Home::default(), Arc::new(AtomicUsize::new(0)));
        let bytes = Bytes::from_owner(Owner(home.clone(), dropped.clone()));
        let body = Boxed::new(StreamBody::new(stream::pending()));
        let log = Log::once([Frame::data(bytes)].into(), body);
        home.set(log.clone()).ok().unwrap();
        let reader = log.reader().unwrap();
        log.commit(reader);
        log.leave(reader);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_waker_is_woken_and_dropped_without_the_lock() {
    struct ComesBack(Arc<Waiting>);
    impl Wake for ComesBack {
        fn wake(self: Arc<Self>) {
            self.0.add(Waker::noop());
        }
    }
    impl Drop for ComesBack {
        fn drop(&mut self) {
            self.0.add(Waker::noop());
        }
    }
    unfrozen(|| {
        let waiting = Arc::new(Waiting::default());
        let waker = Waker::from(Arc::new(ComesBack(waiting.clone())));
        waiting.add(&waker);
        waiting.add(&waker);
        drop(waker);
        waiting.wake_all();
        waiting.wake_all();
    });
}

#[test]
fn empty_frames_are_neither_kept_nor_read_without_end() {
    let polls = Arc::new(AtomicUsize::new(0));
    let log = log({
        let polls = polls.clone();
        move |_| {
            polls.fetch_add(1, Ordering::SeqCst);
            data("")
        }
    });
    let reader = log.reader().unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    for _ in 0..10 {
        woken.0.store(false, Ordering::SeqCst);
        assert!(log.poll_frame(reader, 0, &mut Context::from_waker(&waker)).is_pending());
        assert!(woken.0.load(Ordering::SeqCst), "it must be polled again");
    }
    assert!(polls.load(Ordering::SeqCst) <= 1000, "{polls:?}");
    assert!(log.lock().frames.is_empty());
}

/// An error of the caller's own making has a `Clone` of the caller's own making.
struct Looks(Arc<OnceLock<Arc<Log<Fails>>>>);

impl Clone for Looks {
    fn clone(&self) -> Self {
        self.0.get().unwrap().is_committed();
        Self(self.0.clone())
    }
}

struct Fails(Arc<OnceLock<Arc<Log<Fails>>>>);

impl http_body::Body for Fails {
    type Data = Bytes;
    type Error = Looks;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Looks>>> {
        Poll::Ready(Some(Err(Looks(self.0.clone()))))
    }
}

#[test]
fn an_error_is_copied_without_the_lock() {
    unfrozen(|| {
        let home = Arc::new(OnceLock::new());
        let log = Log::once(VecDeque::new(), Fails(home.clone()));
        home.set(log.clone()).ok().unwrap();
        let (first, second) = (log.reader().unwrap(), log.reader().unwrap());
        for reader in [first, first, second] {
            let polled = log.poll_frame(reader, 0, &mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Some(Err(AttemptError::Body(_))))));
        }
    });
}
