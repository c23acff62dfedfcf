//! What is known of an endpoint.

mod learning;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::admission::{Admission, Admittance};
use super::conditions::{Checked, Connectivity};
use super::latency::PeakEwma;
use super::outcomes::Outcomes;
use super::refusals::{Flags, Refusals};
use super::usual::Usual;
use crate::endpoints::FeedbackConfig;
use crate::quota::Quota;
use crate::{Error, Instance, InstanceId, telemetry};

/// What all endpoints of a service have in common.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) service: Arc<str>,
    /// Where its instances are looked for, for messages.
    pub(crate) source: Arc<str>,
    /// Whether there is an endpointer.
    pub(crate) is_attached: bool,
    pub(crate) feedback: FeedbackConfig,
    /// The number of failures in a row that wakes the detector of outliers; 0 if there is none.
    pub(crate) suspect_after: u32,
    /// Wakes the endpointer, which then publishes a new ready set.
    pub(crate) changed: Notify,
    /// The instances of which something has changed that decides on their place in that set.
    pub(crate) touched: Mutex<Vec<InstanceId>>,
    pub(crate) usual: Usual,
    pub(crate) lines: Quota,
}

impl Surroundings {
    /// The instances noted since the last call. One may stand there twice.
    pub(crate) fn take_touched(&self) -> Vec<InstanceId> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is known of an endpoint, keyed by the instance's id: it survives every change of weight
/// and metadata.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct EndpointState {
    // First, and so in the line of the count of those who hold it, which each call touches.
    pulse: Pulse,
    around: Arc<Surroundings>,
    instance: InstanceId,
    pub(crate) outcomes: Outcomes,
    refusals: Refusals,
    /// Nanoseconds from `created` to when it last began to take calls.
    available_since: AtomicU64,
    /// How often its connection was lost.
    losses: AtomicU64,
    last_error: Mutex<Option<Error>>,
    /// Why the checks call it unhealthy.
    health_error: Mutex<Option<Error>>,
    /// Wakes health checks that go through the connection, and whatever waits for the removal or the withdrawal.
    moved: Notify,
    /// How often connecting has failed since it was connected last.
    failures: AtomicU32,
    connectivity: AtomicU8,
    checked: AtomicU8,
    removed: AtomicBool,
    withdrawn: AtomicBool,
}

/// All that a pick asks of an endpoint that it may not choose. Close together, for in a large fleet a pick costs
/// what it reads from memory; but not aligned to a cache line, which would cost more memory than all that
/// is in here.
#[derive(Debug)]
struct Pulse {
    in_flight: AtomicU32,
    latency: PeakEwma,
    /// Times are kept as distances from here.
    created: Instant,
    decay_seconds: f32,
    admission: Admittance,
    refused: Flags,
}

impl EndpointState {
    pub(crate) fn new(around: Arc<Surroundings>, instance: &Instance) -> Self {
        let pulse = Pulse {
            in_flight: AtomicU32::new(0),
            latency: PeakEwma::default(),
            created: Instant::now(),
            decay_seconds: around.feedback.decay_seconds(),
            admission: Admittance::default(),
            refused: Flags::default(),
        };
        Self {
            pulse,
            around,
            instance: instance.id().clone(),
            connectivity: AtomicU8::new(Connectivity::Ready as u8),
            checked: AtomicU8::new(Checked::Never as u8),
            outcomes: Outcomes::default(),
            refusals: Refusals::default(),
            available_since: AtomicU64::new(0),
            last_error: Mutex::new(None),
            health_error: Mutex::new(None),
            losses: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            moved: Notify::new(),
            removed: AtomicBool::new(false),
            withdrawn: AtomicBool::new(false),
        }
    }

    pub(crate) fn instance(&self) -> &InstanceId {
        &self.instance
    }

    pub(crate) fn service(&self) -> &str {
        &self.around.service
    }

    pub(super) fn around(&self) -> &Arc<Surroundings> {
        &self.around
    }

    pub(crate) fn lines(&self) -> &Quota {
        &self.around.lines
    }

    /// Has the endpointer look again where it stands. After what has changed, before the wake.
    fn touch(&self) {
        if self.around.is_attached {
            let mut touched = self.around.touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.push(self.instance.clone());
        }
    }

    pub(crate) fn connectivity(&self) -> Connectivity {
        // Acquire pairs with the swap in `set_connectivity`: who sees "ready" sees the connection.
        match self.connectivity.load(Ordering::Acquire) {
            0 => Connectivity::Ready,
            1 => Connectivity::Connecting,
            _ => Connectivity::TransientFailure,
        }
    }

    pub(super) fn set_connectivity(&self, to: Connectivity, error: Option<Error>) {
        // The reason of the last failure stays while the next try is under way.
        if to != Connectivity::Connecting {
            self.set_error(error.clone());
        }
        let before = self.connectivity.swap(to as u8, Ordering::AcqRel);
        let same = before == to as u8;
        if !same {
            if before == Connectivity::Ready as u8 {
                self.losses.fetch_add(1, Ordering::AcqRel);
            }
            self.moved.notify_waiters();
        }
        if !same && self.around.is_attached {
            let failures = match to {
                Connectivity::Ready => self.failures.swap(0, Ordering::Relaxed),
                Connectivity::TransientFailure => {
                    self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
                }
                Connectivity::Connecting => 0,
            };
            let Surroundings { lines, service, .. } = &*self.around;
            telemetry::connectivity(lines, service, &self.instance, to, error.as_ref(), failures);
            self.touch();
            self.around.changed.notify_one();
        }
    }

    pub(crate) fn checked(&self) -> Checked {
        match self.checked.load(Ordering::Acquire) {
            0 => Checked::Never,
            1 => Checked::Pending,
            2 => Checked::Healthy,
            _ => Checked::Unhealthy,
        }
    }

    /// What a check has found out. Nobody listens without an endpointer, or after the removal.
    pub(crate) fn set_checked(&self, to: Checked, error: Option<Error>) {
        if self.is_removed() {
            return;
        }
        // Before the verdict: who sees it finds the reason.
        if to != Checked::Pending {
            replace(&self.health_error, error.clone());
        }
        let same = self.checked.swap(to as u8, Ordering::AcqRel) == to as u8;
        if !same && self.around.is_attached {
            telemetry::checked(
                &self.around.lines,
                &self.around.service,
                &self.instance,
                to,
                error.as_ref(),
            );
            self.touch();
            self.around.changed.notify_one();
        }
    }

    /// It cannot be checked: then it counts as well.
    pub(crate) fn set_unsupported(&self, error: &Error) {
        if self.around.is_attached && !self.is_removed() {
            telemetry::not_checked(&self.around.lines, &self.around.service, &self.instance, error);
        }
        self.set_checked(Checked::Healthy, None);
    }

    /// Whether somebody uses what a check finds out.
    pub(crate) fn is_attached(&self) -> bool {
        self.around.is_attached
    }

    /// Waits until the connection stands; says which one it is, for [`lost`](Self::lost).
    pub(crate) async fn connected(&self) -> u64 {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Listening before looking: a change in between is not missed.
            moved.as_mut().enable();
            // Counted before looking: of a connection that is lost in between, `lost` knows at once.
            let losses = self.losses.load(Ordering::Acquire);
            if self.connectivity() == Connectivity::Ready {
                return losses;
            }
            moved.await;
        }
    }

    /// Waits until that connection is lost, and be there another one already.
    pub(crate) async fn lost(&self, connection: u64) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.losses.load(Ordering::Acquire) != connection {
                return;
            }
            moved.await;
        }
    }

    /// Why it does not take calls: what connecting says comes before what the checks say.
    pub(crate) fn last_error(&self) -> Option<Error> {
        let error = lock(&self.last_error).clone();
        match self.checked() {
            Checked::Pending | Checked::Unhealthy => {
                error.or_else(|| lock(&self.health_error).clone())
            }
            Checked::Never | Checked::Healthy => error,
        }
    }

    fn set_error(&self, error: Option<Error>) {
        replace(&self.last_error, error);
    }

    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.moved.notify_waiters();
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub(crate) async fn removed(&self) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.is_removed() {
                return;
            }
            moved.await;
        }
    }

    /// It has left the set of those that take calls, or is back.
    pub(crate) fn set_withdrawn(&self, withdrawn: bool) {
        self.withdrawn.store(withdrawn, Ordering::Release);
        if withdrawn {
            self.moved.notify_waiters();
        }
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    pub(crate) async fn withdrawn(&self) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.is_withdrawn() {
                return;
            }
            moved.await;
        }
    }

    #[inline]
    pub(crate) fn admission(&self) -> Admission {
        self.pulse.admission.get()
    }

    pub(crate) fn set_admission(&self, to: Admission) {
        self.pulse.admission.set(to);
        self.touch();
    }

    /// Whether a call that picks it now may go there. While it proves itself, only one at a time.
    #[inline]
    pub(crate) fn lets_in(&self) -> bool {
        !matches!(self.admission(), Admission::Probing | Admission::Relapsed)
    }

    /// Whether nothing speaks against it: neither our checks nor its own calls.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.checked(), Checked::Never | Checked::Healthy)
            && !matches!(self.admission(), Admission::Ejected | Admission::Relapsed)
    }

    /// Forgets what its calls said: it gets a new chance.
    pub(crate) fn forget(&self) {
        self.pulse.latency.reset();
        self.outcomes.reset();
    }

    pub(crate) fn set_available_since(&self, now: Instant) {
        let since = now.saturating_duration_since(self.pulse.created);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.available_since.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn available_since(&self) -> Instant {
        let nanos = self.available_since.load(Ordering::Relaxed);
        self.pulse.created.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.pulse.created)
    }

    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.pulse.in_flight.load(Ordering::Relaxed) as usize
    }

    /// In seconds.
    #[inline]
    pub(super) fn latency(&self, now: Instant) -> Option<f32> {
        let at = now.saturating_duration_since(self.pulse.created);
        self.pulse.latency.estimate(at, self.pulse.decay_seconds)
    }

    /// A call begins. Whether it is the probe.
    #[inline]
    pub(super) fn enter(&self) -> bool {
        self.pulse.in_flight.fetch_add(1, Ordering::Relaxed);
        self.pulse.admission.enter()
    }

    /// A call ends, after everything else that was to be said of it.
    #[inline]
    pub(super) fn leave(&self, probe: &mut bool) {
        self.pulse.admission.settle(probe, Admission::Probe);
        self.pulse.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The call that tries it hangs: another one may try.
    pub(crate) fn offer_again(&self) {
        self.pulse.admission.offer_again();
    }
}

fn replace(place: &Mutex<Option<Error>>, error: Option<Error>) {
    let replaced = std::mem::replace(&mut *lock(place), error);
    // Not under the lock: it may hold a source of the user's.
    drop(replaced);
}

fn lock(error: &Mutex<Option<Error>>) -> std::sync::MutexGuard<'_, Option<Error>> {
    // Nothing in here panics half way.
    error.lock().unwrap_or_else(PoisonError::into_inner)
}
