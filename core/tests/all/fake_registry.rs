//! A registry with one place, that fails as a test says.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_core::registration::{Keeper, KeptAlive, Leased, Registrar, Registry};
use fleetward_core::{Error, ErrorKind, Instance, RegisterOptions, Registration, ServiceName};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::fake_source::{down, greeter};
use crate::support::instance;

pub(crate) const TTL: Duration = Duration::from_secs(9);

#[derive(Default)]
pub(crate) struct FakeRegistry {
    inner: Mutex<Inner>,
    hint: Notify,
}

#[derive(Default)]
struct Inner {
    leases: u64,
    /// The lease that holds the place, and until when.
    held: Option<(u64, Instant)>,
    down: bool,
    panics: bool,
    silent: bool,
    loses_all: bool,
    latency: Duration,
    register_error: Option<Error>,
    deregister_error: Option<Error>,
    granted: Option<Duration>,
    registers: Vec<Instant>,
    renewals: Vec<Instant>,
    deregisters: usize,
}

impl FakeRegistry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Every request is refused.
    pub(crate) fn down(&self, down: bool) {
        self.lock().down = down;
    }

    /// Every request panics.
    pub(crate) fn panics(&self, panics: bool) {
        self.lock().panics = panics;
    }

    /// No request is answered, though it may be carried out.
    pub(crate) fn silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Forgets every registration as soon as it is asked about it.
    pub(crate) fn loses_all(&self, loses_all: bool) {
        self.lock().loses_all = loses_all;
    }

    /// Half of it passes before a request is carried out, half after.
    pub(crate) fn latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    pub(crate) fn fail_register(&self, error: Option<Error>) {
        self.lock().register_error = error;
    }

    pub(crate) fn fail_deregister(&self, error: Option<Error>) {
        self.lock().deregister_error = error;
    }

    pub(crate) fn grant(&self, ttl: Duration) {
        self.lock().granted = Some(ttl);
    }

    /// Tells whoever keeps a registration that it may be lost.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// As after a wiped registry.
    pub(crate) fn lose(&self) {
        self.lock().held = None;
    }

    /// Somebody else registers under the same key.
    pub(crate) fn take_over(&self, ttl: Duration) {
        let mut inner = self.lock();
        inner.leases += 1;
        inner.held = Some((inner.leases, Instant::now() + ttl));
    }

    pub(crate) fn is_held(&self) -> bool {
        self.lock().held.is_some_and(|(_, until)| until > Instant::now())
    }

    pub(crate) fn registers(&self) -> usize {
        self.lock().registers.len()
    }

    pub(crate) fn renewals(&self) -> Vec<Instant> {
        self.lock().renewals.clone()
    }

    pub(crate) fn deregisters(&self) -> usize {
        self.lock().deregisters
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap();
        inner.held = inner.held.filter(|(_, until)| *until > Instant::now());
        inner
    }

    async fn travel(&self) -> Result<(), Error> {
        let panics = self.lock().panics;
        assert!(!panics, "a bug in a registry's client, on purpose");
        let latency = self.lock().latency;
        if !latency.is_zero() {
            sleep(latency / 2).await;
        }
        if self.lock().down { Err(down()) } else { Ok(()) }
    }

    async fn travel_back(&self) {
        if self.lock().silent {
            std::future::pending::<()>().await;
        }
        let latency = self.lock().latency;
        if !latency.is_zero() {
            sleep(latency / 2).await;
        }
    }
}

impl Registry for FakeRegistry {
    type Lease = u64;

    async fn register(
        &self,
        _: &ServiceName,
        _: &Instance,
        ttl: Duration,
    ) -> Result<Leased<u64>, Error> {
        self.lock().registers.push(Instant::now());
        self.travel().await?;
        let leased = {
            let mut inner = self.lock();
            if let Some(error) = inner.register_error.clone() {
                return Err(error);
            }
            let ttl = inner.granted.unwrap_or(ttl);
            inner.leases += 1;
            inner.held = Some((inner.leases, Instant::now() + ttl));
            Leased { lease: inner.leases, ttl }
        };
        self.travel_back().await;
        Ok(leased)
    }

    async fn keep_alive(&self, lease: &mut u64) -> Result<KeptAlive, Error> {
        self.lock().renewals.push(Instant::now());
        self.travel().await?;
        let kept = {
            let mut inner = self.lock();
            let ttl = inner.granted.unwrap_or(TTL);
            if inner.loses_all {
                inner.held = None;
            }
            match &mut inner.held {
                None => KeptAlive::Lost { reason: Error::new(ErrorKind::NotFound, "no such key") },
                Some((holder, until)) if holder == lease => {
                    *until = Instant::now() + ttl;
                    KeptAlive::Alive { ttl }
                }
                Some(_) => KeptAlive::Superseded {
                    reason: Error::new(ErrorKind::Conflict, "another lease holds the key"),
                },
            }
        };
        self.travel_back().await;
        Ok(kept)
    }

    async fn lost(&self, _: &u64) {
        self.hint.notified().await;
    }

    async fn deregister(&self, lease: u64) -> Result<(), Error> {
        self.lock().deregisters += 1;
        self.travel().await?;
        {
            let mut inner = self.lock();
            if let Some(error) = inner.deregister_error.clone() {
                return Err(error);
            }
            inner.held = inner.held.filter(|(holder, _)| *holder != lease);
        }
        self.travel_back().await;
        Ok(())
    }
}

impl fmt::Debug for FakeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeRegistry")
    }
}

pub(crate) fn options() -> RegisterOptions {
    RegisterOptions::default().with_ttl(TTL).with_seed(7)
}

pub(crate) async fn register(registry: &Arc<FakeRegistry>) -> Result<Registration, Error> {
    register_with(registry, options()).await
}

pub(crate) async fn register_with(
    registry: &Arc<FakeRegistry>,
    options: RegisterOptions,
) -> Result<Registration, Error> {
    Keeper::new(registry.clone()).register(&greeter(), instance("10.0.0.1:80"), options).await
}
