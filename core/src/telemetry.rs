//! What fleetward tells the outside: tracing events and, with feature `metrics`, metrics.
//!
//! Everything is emitted from here, so that names stand in one place. Events have the target
//! `fleetward` and the fields `service`, `instance`, `key`, `error` where they apply. Metrics carry
//! the label `service` and no other, so their number is bounded by what a program asks for, not by
//! what a registry holds. Nothing here is called on the path of a pick.
//!
//! docs/observability.md lists all of them; a test holds the two together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::endpoint::Checked;
use crate::{Connectivity, Error, Freshness, InstanceId, ServiceName};

/// Beyond so many at once a summary stands for the single events.
const MAX_EVENTS: usize = 32;

macro_rules! count {
    ($name:literal, $service:expr, $by:expr) => {{
        let _ = &$by;
        #[cfg(feature = "metrics")]
        metrics::counter!($name, "service" => $service.to_string()).increment($by as u64);
    }};
}

macro_rules! gauge {
    ($name:literal, $service:expr, $value:expr) => {{
        let _ = &$value;
        #[cfg(feature = "metrics")]
        metrics::gauge!($name, "service" => $service.to_string()).set($value as f64);
    }};
}

/// Instances came and went.
pub(crate) fn membership(service: &ServiceName, joined: &[InstanceId], left: &[InstanceId]) {
    count!("fleetward_instances_joined_total", service, joined.len());
    count!("fleetward_instances_left_total", service, left.len());
    if joined.len() + left.len() > MAX_EVENTS {
        info!(
            target: "fleetward", %service, joined = joined.len(), left = left.len(),
            "many instances changed"
        );
        return;
    }
    for instance in joined {
        info!(target: "fleetward", %service, %instance, "instance joined");
    }
    for instance in left {
        info!(target: "fleetward", %service, %instance, "instance left");
    }
}

/// How many instances the published set has.
pub(crate) fn size(service: &ServiceName, instances: usize) {
    gauge!("fleetward_instances", service, instances);
    debug!(target: "fleetward", %service, instances, "published");
}

/// Entries turned out unreadable; `now` many are.
pub(crate) fn skipped(service: &ServiceName, faults: &[(Arc<str>, Error)], now: usize) {
    gauge!("fleetward_entries_skipped", service, now);
    count!("fleetward_entries_skipped_total", service, faults.len());
    for (key, error) in faults.iter().take(MAX_EVENTS) {
        // Registry strings are hostile: no control character and no megabyte reaches a log.
        let key: String = key.chars().take(256).flat_map(char::escape_debug).collect();
        warn!(target: "fleetward", %service, %key, %error, "entry left out: it cannot be read");
    }
    if faults.len() > MAX_EVENTS {
        let more = faults.len() - MAX_EVENTS;
        warn!(target: "fleetward", %service, more, "more entries left out");
    }
}

/// A list or a watch failed; `first` since it last worked.
pub(crate) fn discovery_failed(service: &ServiceName, error: &Error, first: bool) {
    count!("fleetward_discovery_failures_total", service, 1);
    if first {
        warn!(target: "fleetward", %service, %error, "the registry cannot be followed");
    } else {
        debug!(target: "fleetward", %service, %error, "the registry still cannot be followed");
    }
}

/// A watch ended without anything being wrong.
pub(crate) fn resync(service: &ServiceName, reason: &Error) {
    count!("fleetward_resyncs_total", service, 1);
    debug!(target: "fleetward", %service, error = %reason, "listing again");
}

/// How far the set can be trusted was looked at, and perhaps changed.
pub(crate) fn freshness(
    service: &ServiceName,
    before: &Freshness,
    after: &Freshness,
    now: Instant,
) {
    gauge!("fleetward_stale", service, u8::from(after.is_stale()));
    let since = match after {
        Freshness::Stale { since, .. } => now.saturating_duration_since(*since),
        _ => Duration::ZERO,
    };
    gauge!("fleetward_stale_seconds", service, since.as_secs_f64());
    match (before, after) {
        (Freshness::Pending { .. } | Freshness::Fresh, Freshness::Stale { error, .. }) => {
            warn!(target: "fleetward", %service, %error, "serving the last known good set");
        }
        (Freshness::Stale { since, .. }, Freshness::Fresh) => {
            let after = now.saturating_duration_since(*since);
            info!(target: "fleetward", %service, ?after, "the set is fresh again");
        }
        _ => {}
    }
}

/// A registration was written.
pub(crate) fn registered(service: &ServiceName, instance: &InstanceId) {
    count!("fleetward_registered_total", service, 1);
    info!(target: "fleetward", %service, %instance, "registered");
}

/// An attempt to register or to renew failed; `first` since it last worked.
pub(crate) fn registration_failed(
    service: &ServiceName,
    instance: &InstanceId,
    error: &Error,
    first: bool,
) {
    count!("fleetward_registration_failures_total", service, 1);
    if first {
        warn!(target: "fleetward", %service, %instance, %error, "registration in trouble");
    } else {
        debug!(target: "fleetward", %service, %instance, %error, "registration still in trouble");
    }
}

/// A registration was found gone; it is written again.
pub(crate) fn lease_lost(service: &ServiceName, instance: &InstanceId, reason: &Error) {
    count!("fleetward_leases_lost_total", service, 1);
    warn!(target: "fleetward", %service, %instance, error = %reason, "lease lost; registering again");
}

/// A registration was ended, or could not be.
pub(crate) fn deregistered(
    service: &ServiceName,
    instance: &InstanceId,
    outcome: &Result<(), Error>,
) {
    count!("fleetward_deregistered_total", service, 1);
    match outcome {
        Ok(()) => info!(target: "fleetward", %service, %instance, "deregistered"),
        Err(error) => warn!(
            target: "fleetward", %service, %instance, %error,
            "not deregistered; the entry ends with its time to live"
        ),
    }
}

/// An endpoint connected, is connecting, or failed to connect.
pub(crate) fn connectivity(
    service: &str,
    instance: &InstanceId,
    to: Connectivity,
    error: Option<&Error>,
) {
    match (to, error) {
        (Connectivity::Ready, _) => {
            info!(target: "fleetward", service, %instance, "connected");
        }
        (_, Some(error)) => {
            warn!(target: "fleetward", service, %instance, %error, "connection failed");
            count!("fleetward_connection_failures_total", service, 1);
        }
        _ => debug!(target: "fleetward", service, %instance, "connecting"),
    }
}

/// A health check found out something new of an endpoint.
pub(crate) fn checked(service: &str, instance: &InstanceId, to: Checked, error: Option<&Error>) {
    match (to, error) {
        (Checked::Healthy, _) => {
            info!(target: "fleetward", service, %instance, "healthy");
            count!("fleetward_found_healthy_total", service, 1);
        }
        (Checked::Unhealthy, Some(error)) => {
            warn!(target: "fleetward", service, %instance, %error, "unhealthy");
            count!("fleetward_found_unhealthy_total", service, 1);
        }
        _ => debug!(target: "fleetward", service, %instance, "health is not known yet"),
    }
}

/// A health check cannot check an endpoint.
pub(crate) fn not_checked(service: &str, instance: &InstanceId, error: &Error) {
    warn!(target: "fleetward", service, %instance, %error, "health cannot be checked");
}

/// A factory failed for one instance.
pub(crate) fn factory_failed(service: &str, instance: &InstanceId, error: &Error) {
    warn!(target: "fleetward", service, %instance, %error, "factory failed");
    count!("fleetward_factory_failures_total", service, 1);
}

/// Outlier detection leaves an endpoint out.
pub(crate) fn ejected(service: &str, instance: &InstanceId, reason: &str, time: Duration) {
    warn!(target: "fleetward", service, %instance, reason, ?time, "ejected");
    count!("fleetward_ejections_total", service, 1);
}

/// An endpoint that was ejected takes calls again.
pub(crate) fn readmitted(service: &str, instance: &InstanceId) {
    info!(target: "fleetward", service, %instance, "readmitted");
}

/// The endpointer's task ended by a panic of code that is not its own.
pub(crate) fn stopped(service: &str) {
    error!(target: "fleetward", service, "a view or an instancer panicked: the endpoints no longer follow it");
}

/// A balancer panicked while it prepared a set.
pub(crate) fn not_prepared(service: &str) {
    error!(target: "fleetward", service, "the balancer panicked while it prepared a set");
}

/// A new set of endpoints was published.
pub(crate) fn endpoints(service: &str, ready: usize, known: usize) {
    tracing::trace!(target: "fleetward", service, ready, known, "endpoints");
    gauge!("fleetward_endpoints_ready", service, ready);
    gauge!("fleetward_endpoints_known", service, known);
}

/// A call is tried again; `attempt` counts from 1.
pub(crate) fn retried(attempt: u32) {
    debug!(target: "fleetward", attempt, "retry");
    #[cfg(feature = "metrics")]
    metrics::counter!("fleetward_retries_total").increment(1);
}

/// A further attempt was not made, for the budget is spent.
pub(crate) fn retry_refused() {
    debug!(target: "fleetward", "retry refused by the budget");
    #[cfg(feature = "metrics")]
    metrics::counter!("fleetward_retries_refused_total").increment(1);
}
