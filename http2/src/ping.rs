//! Pings: whether the server is still there, and how wide its windows may be.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::{Config, SPEC_WINDOW};

/// What has been read from a connection, noted by its streams.
#[derive(Debug)]
pub(crate) struct Reads {
    origin: Instant,
    /// Nanoseconds from `origin` to the last one.
    last: AtomicU64,
    /// Bytes of bodies since the last measurement began.
    bytes: AtomicUsize,
}

impl Reads {
    /// Nothing if nobody wants to know.
    pub(crate) fn for_config(config: &Config) -> Option<Self> {
        let wanted = config.keep_alive_interval.is_some() || config.adaptive_window;
        wanted.then(|| Self {
            origin: Instant::now(),
            last: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
        })
    }

    pub(crate) fn note(&self, bytes: usize) {
        let nanos = self.origin.elapsed().as_nanos();
        self.last.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.origin + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }
}

/// Sends the pings of one connection. h2 allows one at a time.
pub(crate) struct Pinger {
    pings: PingPong,
    /// When the one that is not yet answered was sent.
    sent: Option<Instant>,
    keep_alive: Option<KeepAlive>,
    window: Option<Window>,
}

/// What follows from a ping.
pub(crate) enum Pong {
    /// No answer in time.
    TimedOut,
    /// The windows are to be this wide.
    Widen(u32),
}

impl Pinger {
    pub(crate) fn new(pings: PingPong, config: &Config) -> Self {
        let keep_alive = config.keep_alive_interval.map(|interval| KeepAlive {
            interval,
            timeout: config.keep_alive_timeout,
            while_idle: config.keep_alive_while_idle,
            timer: None,
        });
        let window = config.adaptive_window.then(Window::default);
        Self { pings, sent: None, keep_alive, window }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, reads: &Reads, idle: bool) -> Poll<Pong> {
        let now = Instant::now();
        if let Some(sent) = self.sent
            && let Poll::Ready(Ok(_)) = self.pings.poll_pong(cx)
        {
            self.sent = None;
            reads.note(0);
            if let Some(keep_alive) = &mut self.keep_alive {
                keep_alive.timer = None;
            }
            let widened = self.window.as_mut().and_then(|window| {
                window.measured(reads.bytes.swap(0, Ordering::Relaxed), now - sent, now)
            });
            if let Some(width) = widened {
                // The rest is done in the next poll, which follows at once.
                return Poll::Ready(Pong::Widen(width));
            }
        }
        if let Some(window) = &self.window
            && self.sent.is_none()
            && window.wants_ping(reads, now)
        {
            self.send(now, reads);
        }
        let waits = self.sent;
        let Some(keep_alive) = &mut self.keep_alive else { return Poll::Pending };
        match keep_alive.poll(cx, waits, reads, idle) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if waits.is_some() => Poll::Ready(Pong::TimedOut),
            // Once more, for the timer of its answer.
            Poll::Ready(()) if self.send(now, reads) => self.poll(cx, reads, idle),
            Poll::Ready(()) => Poll::Pending,
        }
    }

    /// Refused only while another one is under way, or when the connection is over. Whatever it is for, a
    /// measurement begins with it.
    fn send(&mut self, now: Instant, reads: &Reads) -> bool {
        reads.bytes.store(0, Ordering::Relaxed);
        let sent = self.pings.send_ping(Ping::opaque()).is_ok();
        self.sent = sent.then_some(now);
        sent
    }
}

/// Pings where nothing was read for a while.
struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    while_idle: bool,
    /// For the next ping, or for the answer to the last one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl KeepAlive {
    /// Ready when it is time for a ping, or too late for its answer.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sent: Option<Instant>,
        reads: &Reads,
        idle: bool,
    ) -> Poll<()> {
        if sent.is_none() && idle && !self.while_idle {
            // The next stream has the connection polled again.
            self.timer = None;
            return Poll::Pending;
        }
        let at = match sent {
            Some(sent) => sent + self.timeout,
            None => reads.last() + self.interval,
        };
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if at < timer.deadline() {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            if at <= timer.deadline() {
                self.timer = None;
                return Poll::Ready(());
            }
            // Something was read since it was set.
            timer.as_mut().reset(at);
        }
    }
}

/// Any wider, and TCP's own window is what holds the sender back.
const WIDEST: u32 = 16 * 1024 * 1024;

/// Follows the product of bandwidth and delay: how much comes in while a ping is under way. As gRPC's
/// implementations do it.
struct Window {
    width: u32,
    /// Seconds, averaged.
    rtt: f64,
    /// Bytes a second, the most there was.
    bandwidth: f64,
    /// How long to wait with the next ping, and until when.
    pause: Duration,
    until: Option<Instant>,
    unchanged: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            width: SPEC_WINDOW,
            rtt: 0.0,
            bandwidth: 0.0,
            pause: Duration::from_millis(100),
            until: None,
            unchanged: 0,
        }
    }
}

impl Window {
    fn wants_ping(&self, reads: &Reads, now: Instant) -> bool {
        let rested = self.until.is_none_or(|until| until <= now);
        rested && self.width < WIDEST && reads.bytes.load(Ordering::Relaxed) > 0
    }

    /// So much came in while a ping was under way for so long. Says how wide the windows are to be, if they
    /// are to be another width.
    fn measured(&mut self, bytes: usize, rtt: Duration, now: Instant) -> Option<u32> {
        let rtt = rtt.as_secs_f64().max(1e-6);
        self.rtt = if self.rtt == 0.0 { rtt } else { self.rtt + (rtt - self.rtt) / 8.0 };
        let bandwidth = bytes as f64 / (self.rtt * 1.5);
        let grows = bandwidth >= self.bandwidth && bytes as u64 >= u64::from(self.width) * 2 / 3;
        self.bandwidth = self.bandwidth.max(bandwidth);
        if grows {
            self.unchanged = 0;
            self.pause /= 2;
            self.width = u32::try_from(bytes.saturating_mul(2)).unwrap_or(WIDEST).min(WIDEST);
        } else if self.pause < Duration::from_secs(10) {
            self.unchanged += 1;
            if self.unchanged >= 2 {
                self.unchanged = 0;
                self.pause *= 4;
            }
        }
        self.until = now.checked_add(self.pause);
        grows.then_some(self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn windows_grow_with_what_comes_in_and_no_further() {
        let mut window = Window::default();
        let (rtt, now) = (Duration::from_millis(10), Instant::now());
        assert_eq!(window.measured(10_000, rtt, now), None);
        assert_eq!(window.measured(60_000, rtt, now), Some(120_000));
        // Less than before, then more.
        assert_eq!(window.measured(50_000, rtt, now), None);
        assert_eq!(window.measured(120_000, rtt, now), Some(240_000));
        assert_eq!(window.measured(usize::MAX, rtt, now), Some(WIDEST));
        let reads = Reads { origin: now, last: AtomicU64::new(0), bytes: AtomicUsize::new(1) };
        assert!(!window.wants_ping(&reads, now + Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_that_keeps_alive_measures_what_comes_in_after_it() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = async {
            let mut server = h2::server::handshake(far).await.unwrap();
            while server.accept().await.is_some() {}
        };
        tokio::spawn(server);
        let (_requests, mut connection) = h2::client::handshake(near).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        let config = Config::default()
            .with_adaptive_window(true)
            .with_keep_alive_interval(Duration::from_secs(1))
            .with_keep_alive_while_idle(true);
        let reads = Reads::for_config(&config).unwrap();
        let mut pinger = Pinger::new(pings, &config);
        let window = pinger.window.as_mut().unwrap();
        window.until = Some(Instant::now() + Duration::from_secs(10));
        reads.note(10 << 20);
        let widened = std::future::poll_fn(|cx| pinger.poll(cx, &reads, true));
        assert!(tokio::time::timeout(Duration::from_secs(3), widened).await.is_err());
        assert!(pinger.window.unwrap().rtt > 0.0, "nothing was measured");
    }
}
