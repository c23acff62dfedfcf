//! The loop of a reflector: list, watch from there, and after any end list again.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ReflectorConfig;
use super::refreshes::Refreshes;
use super::table::Origin;
use super::view::View;
use crate::backoff::BackoffState;
use crate::discovery::{Change, Listing, Publisher, Source};
use crate::task::shield::{panicked, shielded, shielded_future};
use crate::task::supervised::Supervised;
use crate::{Error, ErrorKind, ServiceName, telemetry};

/// Runs until it is aborted; there is no other way out of the loop.
#[derive(Debug)]
pub(super) struct Driver<S> {
    source: Arc<S>,
    service: ServiceName,
    config: ReflectorConfig,
    backoff: BackoffState,
    view: View,
    refreshes: Refreshes,
}

/// How following the registry came to an end.
enum Ended {
    /// A reader asks for a new list, and the registry is one that is polled.
    Refresh,
    /// The registry asks for a new list, without anything being wrong.
    Resync(Error),
    Failed(Error),
}

impl<S: Source> Driver<S> {
    pub(super) fn new(
        source: Arc<S>,
        service: ServiceName,
        config: ReflectorConfig,
        publisher: Publisher,
    ) -> Self {
        let backoff = BackoffState::new(config.backoff.clone(), config.rng());
        let refreshes = Refreshes::new(publisher.clone(), config.min_refresh_interval);
        let view = View::new(service.clone(), publisher, config.clone());
        Self { source, service, config, backoff, view, refreshes }
    }

    async fn keep_following(&mut self) {
        let mut refreshed = false;
        loop {
            let ended = self.follow(refreshed).await;
            refreshed = matches!(ended, Ended::Refresh);
            let (Ended::Resync(error) | Ended::Failed(error)) = &ended else { continue };
            let delay = self.backoff.next_delay();
            // Once in a healthy period a watch may end for no reason; a registry that keeps
            // doing it is one that fails, else it would be asked without a pause.
            if matches!(ended, Ended::Resync(_)) && self.backoff.failures() == 1 {
                telemetry::resync(&self.service, error);
                continue;
            }
            self.view.fail(error.clone().with_context("service", &self.service));
            attend(&mut self.view, sleep(delay)).await;
        }
    }

    /// One list and the watch from where it stood. A list that a reader asked for is the next word of the same
    /// watch.
    async fn follow(&mut self, refreshed: bool) -> Ended {
        self.refreshes.listing();
        let listing = async { self.source.list(&self.service).await };
        let listing = timeout(self.config.list_timeout, shielded_future(listing));
        let listing = match attend(&mut self.view, listing).await {
            Ok(Some(Ok(listing))) => listing,
            Ok(Some(Err(error))) => return Ended::Failed(error),
            Ok(None) => return Ended::Failed(panicked("the source").with_operation("list")),
            Err(_) => {
                let error = Error::timeout("the registry did not answer in time");
                let error = error.with_operation("list");
                return Ended::Failed(
                    error.with_context("after", format_args!("{:?}", self.config.list_timeout)),
                );
            }
        };
        let Listing { entries, cursor, settings } = listing;
        let origin = if refreshed { Origin::Watched } else { Origin::Relist };
        if let Err(error) = self.view.replace(entries, settings, origin) {
            return Ended::Failed(error);
        }
        let gone = || Ended::Failed(panicked("the source").with_operation("watch"));
        let changes = shielded(|| self.source.watch(&self.service, cursor));
        let Some(changes) = changes else { return gone() };
        let mut changes = pin!(changes);
        loop {
            let next = tokio::select! {
                biased;
                next = attend(&mut self.view, shielded_future(changes.next())) => next,
                () = self.refreshes.due(), if self.source.is_polled() => return Ended::Refresh,
            };
            let Some(next) = next else { return gone() };
            let applied = match next {
                Some(Ok(Change::Keys { changes, .. })) => self.view.apply(changes),
                Some(Ok(Change::Full(Listing { entries, settings, .. }))) => {
                    self.view.replace(entries, settings, Origin::Watched)
                }
                Some(Ok(Change::Progress)) => {
                    self.view.tick();
                    Ok(())
                }
                Some(Err(error)) if error.is_cursor_lost() => return Ended::Resync(error),
                Some(Err(error)) => return Ended::Failed(error),
                None => {
                    let error = Error::new(ErrorKind::Unavailable, "the registry ended the watch");
                    return Ended::Resync(error.with_operation("watch"));
                }
            };
            if let Err(error) = applied {
                return Ended::Failed(error);
            }
            // A source that always has something ready must not keep the abort from coming in.
            tokio::task::coop::consume_budget().await;
        }
    }
}

impl<S: Source> Supervised for Driver<S> {
    type Output = ();
    const NAME: &'static str = "the reflector";

    fn service(&self) -> &str {
        self.service.as_str()
    }

    async fn run(&mut self) {
        self.keep_following().await;
    }

    fn panicked(&mut self, error: Error) {
        self.view.panicked(error);
    }
}

/// Waits for `future`, and lets the view do what falls due meanwhile. The news goes first, for
/// taking it in does what is due as well.
async fn attend<F: Future>(view: &mut View, future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let due = view.next_tick();
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => view.tick(),
        }
    }
}
