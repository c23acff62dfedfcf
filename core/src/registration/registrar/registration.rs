//! A registration that is being kept, and what is known of it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Error, ErrorKind, Instance, ServiceName};

/// How a registration stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// The first attempt is under way.
    Registering,
    /// The registry has the instance.
    Registered,
    /// The registry may not have the instance: it is being tried again.
    Retrying {
        /// Since when.
        since: Instant,
        /// Why, as of the last attempt.
        error: Error,
    },
    /// It was ended, by [`Registration::deregister`] or by dropping it.
    Deregistered,
}

impl Status {
    /// Whether the registry has the instance, as far as is known.
    pub fn is_registered(&self) -> bool {
        matches!(self, Self::Registered)
    }

    /// Whether it is being tried again.
    pub fn is_retrying(&self) -> bool {
        matches!(self, Self::Retrying { .. })
    }

    /// Whether it was ended.
    pub fn is_deregistered(&self) -> bool {
        matches!(self, Self::Deregistered)
    }

    /// Why it is being tried again, if it is.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Retrying { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// An instance that is kept in a registry. It stays there until this is deregistered or dropped.
///
/// Call [`deregister`](Self::deregister) when a server shuts down, before it drains: it says
/// whether the registry was told. Dropping tells the registry in the background as well, for as
/// long as the runtime lives; what it cannot tell ends with the time to live.
#[must_use = "dropping a registration ends it, and `let _ =` drops it at once: hold it in a variable with a name, such as `_registration`"]
pub struct Registration {
    service: ServiceName,
    instance: Arc<Instance>,
    state: watch::Receiver<State>,
    /// Dropping it stops the task as well as sending does.
    stop: watch::Sender<bool>,
}

impl Registration {
    /// How the registration stands just now.
    pub fn status(&self) -> Status {
        self.state.borrow().status.clone()
    }

    /// Follows the status.
    pub fn watch_status(&self) -> StatusWatch {
        StatusWatch { state: self.state.clone() }
    }

    /// What was registered.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The service it was registered for.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Takes the instance out of the registry and waits until that is done, no longer than
    /// [`deregister_timeout`](crate::RegisterOptions::deregister_timeout). Calling it again gives
    /// the same result. Dropping the future does not call it off.
    ///
    /// # Errors
    /// Why the registry could not be told; the entry then ends with its time to live.
    pub async fn deregister(&self) -> Result<(), Error> {
        self.stop.send_replace(true);
        let mut state = self.state.clone();
        match state.wait_for(|state| state.outcome.is_some()).await {
            Ok(state) => state.outcome.clone().unwrap_or(Ok(())),
            Err(_) => Err(Error::new(ErrorKind::Closed, "the task that kept it has ended")
                .with_operation("deregister")
                .with_context("service", &self.service)
                .with_context("instance", self.instance.id())),
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("service", &self.service)
            .field("instance", self.instance.id())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Follows how a [`Registration`] stands; it does not keep it alive.
///
/// Only the newest status matters: a slow reader skips those in between.
#[derive(Clone)]
pub struct StatusWatch {
    state: watch::Receiver<State>,
}

impl StatusWatch {
    /// How the registration stands just now.
    pub fn current(&self) -> Status {
        self.state.borrow().status.clone()
    }

    /// Waits for a status newer than the last one seen. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the registration has ended and its end was seen.
    pub async fn changed(&mut self) -> Result<Status, Error> {
        match self.state.changed().await {
            Ok(()) => Ok(self.state.borrow_and_update().status.clone()),
            Err(_) => Err(ended()),
        }
    }

    /// Waits until the status fulfils the condition, the current one included. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the registration ends before.
    pub async fn wait_for(
        &mut self,
        mut condition: impl FnMut(&Status) -> bool,
    ) -> Result<Status, Error> {
        loop {
            // Not under the channel's lock: the condition is the caller's.
            let status = self.state.borrow_and_update().status.clone();
            if condition(&status) {
                return Ok(status);
            }
            self.state.changed().await.map_err(|_| ended())?;
        }
    }
}

impl fmt::Debug for StatusWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatusWatch").field(&self.current()).finish()
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the registration has ended")
}

#[derive(Debug)]
struct State {
    status: Status,
    /// How ending it went, once that is over.
    outcome: Option<Result<(), Error>>,
}

/// The keeping side of a [`Registration`].
#[derive(Debug)]
pub(crate) struct Report {
    state: watch::Sender<State>,
    stop: watch::Receiver<bool>,
}

impl Report {
    pub(crate) fn registered(&self) {
        self.set(|_| Status::Registered);
    }

    /// Keeps the first moment of the trouble; returns whether this is it.
    pub(crate) fn retrying(&self, error: Error) -> bool {
        let mut first = true;
        self.set(|status| {
            let since = match status {
                Status::Retrying { since, .. } => {
                    first = false;
                    *since
                }
                _ => Instant::now(),
            };
            Status::Retrying { since, error }
        });
        first
    }

    fn set(&self, next: impl FnOnce(&Status) -> Status) {
        let mut replaced = None;
        self.state.send_modify(|state| {
            let next = next(&state.status);
            replaced = Some(std::mem::replace(&mut state.status, next));
        });
        // Not under the channel's lock: an error in it may hold a source of the user's.
        drop(replaced);
    }

    pub(crate) fn ended(&self, outcome: Result<(), Error>) {
        // Nobody is told of the outcome before both are there.
        self.state.send_if_modified(|state| {
            state.outcome = Some(outcome);
            false
        });
        self.set(|_| Status::Deregistered);
    }

    /// Whether the registration was told to end, or was dropped, which closes the channel.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Waits for `future` unless, or until, the registration is to end.
    pub(crate) async fn unless_stopped<F: Future>(&mut self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            // An error says that the registration was dropped: that ends it as well.
            _ = self.stop.wait_for(|stop| *stop) => None,
            output = future => Some(output),
        }
    }
}

impl Drop for Report {
    /// The task may also end with the runtime.
    fn drop(&mut self) {
        if self.state.borrow().outcome.is_none() {
            let error = Error::new(ErrorKind::Closed, "the task that kept it has ended");
            self.retrying(error);
        }
    }
}

/// Both sides of a new registration.
pub(crate) fn registration(
    service: ServiceName,
    instance: Arc<Instance>,
) -> (Registration, Report) {
    let (state, seen) = watch::channel(State { status: Status::Registering, outcome: None });
    let (stop, stopped) = watch::channel(false);
    let registration = Registration { service, instance, state: seen, stop };
    (registration, Report { state, stop: stopped })
}
