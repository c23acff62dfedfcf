//! The task that owns a socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use crate::config::Config;
use crate::error::Lost;
use crate::ping::{Pinger, Pong, Reads};
use crate::reset_queue::PAUSE;
use crate::sender::Sender;
use crate::slots::{Limit, Slots};

/// Reads and writes for all streams of a connection, until the last one has ended after nobody can open
/// another: because the server goes away, or because all [`Sender`]s were dropped. Dropped, it closes the
/// socket at once.
pub(crate) struct Driver<T> {
    connection: Connection<T, Bytes>,
    /// Asked whether it still opens streams; gone when it does not.
    requests: Option<SendRequest<Bytes>>,
    /// Until the last sender is dropped.
    open: oneshot::Receiver<Infallible>,
    slots: Arc<Slots>,
    limit: Limit,
    pinger: Option<Pinger>,
    /// While there are streams to be reset.
    release: Option<Pin<Box<Sleep>>>,
    closing: Option<oneshot::Sender<Result<(), Lost>>>,
}

/// Resolves when a connection takes no more requests: to an error if it was lost, to `Ok` if the server closed it in
/// good order.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Closing(oneshot::Receiver<Result<(), Lost>>);

impl Closing {
    /// What it has resolved to.
    pub(crate) fn try_recv(&mut self) -> Option<Result<(), Lost>> {
        self.0.try_recv().ok()
    }
}

impl Future for Closing {
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Its task may have been cut off, too.
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or(Ok(())))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(crate) fn new(
        requests: SendRequest<Bytes>,
        mut connection: Connection<T, Bytes>,
        config: &Config,
    ) -> (Self, Sender, Closing) {
        let slots = Arc::new(Slots::new(Reads::for_config(config)));
        let pings = slots.reads.is_some().then(|| connection.ping_pong()).flatten();
        let pinger = pings.map(|pings| Pinger::new(pings, config));
        let (held, open) = oneshot::channel();
        let (closing, closed) = oneshot::channel();
        let sender = Sender {
            requests: requests.clone(),
            slots: slots.clone(),
            runtime: Handle::current(),
            _open: held,
        };
        let driver = Self {
            connection,
            requests: Some(requests),
            open,
            slots,
            limit: Limit::default(),
            pinger,
            release: None,
            closing: Some(closing),
        };
        (driver, sender, Closing(closed))
    }

    fn close(&mut self, why: Result<(), Lost>) {
        self.requests = None;
        self.slots.close();
        if let Some(closing) = self.closing.take() {
            // Nobody waits for it while the instance is being removed.
            let _ = closing.send(why);
        }
    }

    /// An error if the server does not answer.
    fn poll_pings(&mut self, cx: &mut Context<'_>, idle: bool) -> Result<(), Lost> {
        let (Some(pinger), Some(reads)) = (&mut self.pinger, &self.slots.reads) else {
            return Ok(());
        };
        while let Poll::Ready(pong) = pinger.poll(cx, reads, idle) {
            match pong {
                Pong::TimedOut => return Err(Lost::TimedOut),
                Pong::Widen(width) => {
                    self.connection.set_target_window_size(width);
                    // Refused while the server has not confirmed the width before: then the next will do.
                    let _ = self.connection.set_initial_window_size(width);
                }
            }
        }
        Ok(())
    }

    /// Resets the streams that were given up, in its own time.
    fn poll_resets(&mut self, cx: &mut Context<'_>) {
        while self.slots.resets.begin_poll(cx) {
            let release = self.release.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
            if release.as_mut().poll(cx).is_pending() {
                return;
            }
            self.release = None;
            self.slots.resets.release();
        }
    }

    /// Whether no pings are due for want of streams.
    fn is_idle(&self) -> bool {
        self.pinger.is_some() && self.limit.is_idle(&self.slots)
    }

    /// What h2 knows now of how many streams there may be.
    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        let Some(requests) = &mut self.requests else { return };
        self.limit.follow(&self.slots, self.connection.max_concurrent_send_streams());
        if let Poll::Ready(Err(error)) = requests.poll_ready(cx) {
            let graceful = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            self.close(if graceful { Ok(()) } else { Err(Lost::Http2(error)) });
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.requests.is_some() && Pin::new(&mut this.open).poll(cx).is_ready() {
            // h2 ends the connection with its last stream once nobody holds a handle.
            this.requests = None;
        }
        this.poll_resets(cx);
        let idle = this.is_idle();
        if let Err(lost) = this.poll_pings(cx, idle) {
            this.slots.set_timed_out();
            this.close(Err(lost));
            return Poll::Ready(());
        }
        let polled = Pin::new(&mut this.connection).poll(cx);
        match polled {
            Poll::Pending => {
                this.poll_requests(cx);
                if idle && !this.is_idle() {
                    // Opened since it was asked: h2 has sent it along and wakes nobody for it, but its pings
                    // are not on their way yet.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Poll::Ready(ended) => {
                this.close(ended.map_err(Lost::Http2));
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        // Also where it is cut off.
        self.slots.close();
        self.slots.resets.end();
    }
}

/// The task that owns a connection's socket. Dropping this closes the socket at once.
#[derive(Debug)]
pub struct DriverTask {
    task: JoinHandle<()>,
}

impl DriverTask {
    pub(crate) fn spawn(driver: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: tokio::spawn(driver) }
    }

    /// Waits until every stream has ended and the socket is closed.
    pub async fn closed(mut self) {
        // It ends; or it was cut off, or has panicked.
        let _ = (&mut self.task).await;
    }

    /// Whether the socket is closed.
    pub fn is_closed(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for DriverTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf};

    use super::*;

    /// Does something while the connection is in the middle of being polled.
    struct Hooked<F> {
        inner: DuplexStream,
        hook: F,
    }

    impl<F: FnMut() + Unpin> AsyncRead for Hooked<F> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            (self.hook)();
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        }
    }

    impl<F: Unpin> AsyncWrite for Hooked<F> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.inner).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    fn open(sender: &Sender) -> impl Sized + use<> {
        let request = http::Request::get("http://a.test/").body(()).unwrap();
        let slot = sender.slots.try_take().unwrap().unwrap();
        (sender.requests.clone().send_request(request, true).unwrap(), slot)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_opened_while_the_connection_is_polled_has_its_pings() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (armed, hook) = std::sync::mpsc::channel::<Arc<Sender>>();
        let mut opened = Vec::new();
        let hook = move || opened.extend(hook.try_iter().map(|sender| open(&sender)));
        let near = Hooked { inner: near, hook };
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        let config = Config::default()
            .with_keep_alive_interval(Duration::from_secs(1))
            .with_keep_alive_timeout(Duration::from_secs(1));
        let (mut driver, sender, _closing) = Driver::new(requests, connection, &config);
        let sender = Arc::new(sender);
        // SETTINGS, and never a word again.
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let over = tokio::time::timeout(Duration::from_secs(10), &mut driver).await;
        assert!(over.is_err(), "pings without a stream");
        // This one takes the waker, which is what has the connection polled.
        drop(open(&sender));
        tokio::task::yield_now().await;
        armed.send(sender.clone()).unwrap();
        let over = tokio::time::timeout(Duration::from_secs(10), &mut driver).await;
        assert!(over.is_ok() && sender.slots.is_timed_out(), "no pings");
    }
}
