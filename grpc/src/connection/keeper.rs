//! The task that keeps one instance connected.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fleetward_core::backoff::BackoffState;
use fleetward_core::endpoints::Readiness;
use fleetward_core::task::{Supervised, supervise};
use fleetward_core::{Error, ErrorKind, Instance};
use fleetward_http2::{DriverTask, Established};
use futures::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::dial::Dialer;
use super::error::unavailable;
use super::link::Link;

/// A connection that stood this long and is lost is dialled again at once, and the waits start over;
/// one that did not waits its turn, so that a server which hangs up on everybody is not dialled in a
/// loop.
const STOOD: Duration = Duration::from_secs(1);

/// Dials, holds, and dials again, whether or not there are calls; until the instance is removed or
/// nobody holds the [`Connection`](super::Connection) any more. Then it drains.
pub(super) struct Keeper {
    dialer: Arc<Dialer>,
    instance: Arc<Instance>,
    readiness: Readiness,
    link: Arc<Link>,
    backoff: BackoffState,
    /// The sockets with streams on them, those of connections that take no more calls included.
    tasks: Vec<DriverTask>,
}

impl Keeper {
    pub(super) fn new(
        dialer: Arc<Dialer>,
        instance: Arc<Instance>,
        readiness: Readiness,
        link: Arc<Link>,
    ) -> Self {
        let backoff = BackoffState::new(dialer.config.backoff.clone(), fastrand::Rng::new());
        Self { dialer, instance, readiness, link, backoff, tasks: Vec::new() }
    }

    pub(super) async fn run(mut self, held: oneshot::Receiver<Infallible>) {
        let readiness = self.readiness.clone();
        let over = async {
            tokio::select! {
                () = readiness.removed() => {}
                // Never sent: an error means that the last handle is gone.
                _ = held => {}
            }
        };
        tokio::select! {
            // In this order: no dial begins for an instance that is gone.
            biased;
            () = pin!(over) => {}
            () = supervise(&mut self) => {}
        }
        self.drain().await;
    }

    /// Never returns. Between any two awaits `self` is fit to be drained.
    async fn stay_connected(&mut self) {
        loop {
            self.readiness.set_connecting();
            match self.dialer.dial(self.instance.address()).await {
                Ok(established) => {
                    let since = Instant::now();
                    let error = self.hold(established).await;
                    self.readiness.set_failed(error);
                    if since.elapsed() >= STOOD {
                        self.backoff.reset();
                        continue;
                    }
                }
                Err(error) => self.readiness.set_failed(error),
            }
            sleep(self.backoff.next_delay()).await;
        }
    }

    /// Lets calls through until the connection takes no more.
    async fn hold(&mut self, established: Established) -> Error {
        let Established { sender, closing, task, .. } = established;
        self.tasks.retain(|task| !task.is_closed());
        self.tasks.push(task);
        let takes_any = sender.takes_any();
        // In this order: who finds the endpoint ready finds the connection too.
        self.link.connect(sender);
        let ended = tokio::select! {
            biased;
            ended = closing => ended,
            never = self.follow(takes_any) => match never {},
        };
        self.link.disconnect();
        match ended {
            Err(error) => unavailable("the connection was lost", error),
            Ok(()) => Error::new(ErrorKind::Unavailable, "the server closed the connection"),
        }
        .with_context("address", self.instance.address())
    }

    /// Says whether the server takes calls on a connection that stands.
    async fn follow(&self, mut takes_any: watch::Receiver<bool>) -> Infallible {
        loop {
            let any = *takes_any.borrow_and_update();
            if any {
                self.readiness.set_ready();
            } else {
                let why = "the server takes no calls: SETTINGS_MAX_CONCURRENT_STREAMS is 0";
                let error = Error::new(ErrorKind::Unavailable, why);
                self.readiness.set_failed(error.with_context("address", self.instance.address()));
            }
            if takes_any.changed().await.is_err() {
                // The connection is over: its end says so.
                std::future::pending::<()>().await;
            }
        }
    }

    /// No new call; those under way may finish until the drain timeout.
    async fn drain(mut self) {
        self.link.disconnect();
        // Dropping the tasks cuts off what is left.
        let closed = self.tasks.drain(..).map(DriverTask::closed);
        let _ = timeout(self.dialer.config.drain_timeout, join_all(closed)).await;
    }
}

impl Supervised for Keeper {
    type Output = ();
    const NAME: &'static str = "the task that keeps an instance connected";

    fn service(&self) -> &str {
        self.readiness.service()
    }

    async fn run(&mut self) {
        self.stay_connected().await;
    }

    /// Nobody looks after the connection any more, so no more calls go there; those under way may finish.
    fn panicked(&mut self, error: Error) {
        self.link.disconnect();
        self.readiness.set_failed(error);
    }
}
