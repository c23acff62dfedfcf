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

use crate::endpoint::{Checked, News};
use crate::reflector::Clash;
use crate::supervised::shielded;
use crate::{Connectivity, Error, Freshness, InstanceId, ServiceName};

/// Beyond so many at once a summary stands for the single events.
const MAX_EVENTS: usize = 32;

// A subscriber or a recorder is the user's: what it does wrong ends no task and no call.

macro_rules! debug { ($($event:tt)+) => { { shielded(|| tracing::debug!(target: "fleetward", $($event)+)); } }; }
macro_rules! info { ($($event:tt)+) => { { shielded(|| tracing::info!(target: "fleetward", $($event)+)); } }; }
macro_rules! warn { ($($event:tt)+) => { { shielded(|| tracing::warn!(target: "fleetward", $($event)+)); } }; }
macro_rules! error { ($($event:tt)+) => { { shielded(|| tracing::error!(target: "fleetward", $($event)+)); } }; }

macro_rules! count {
    ($name:literal) => {{
        #[cfg(feature = "metrics")]
        shielded(|| metrics::counter!($name).increment(1));
    }};
    ($name:literal, $service:expr, $by:expr) => {{
        let _ = &$by;
        #[cfg(feature = "metrics")]
        shielded(|| {
            metrics::counter!($name, "service" => $service.to_string()).increment($by as u64);
        });
    }};
}

macro_rules! gauge {
    ($name:literal, $service:expr, $value:expr) => {{
        let _ = &$value;
        #[cfg(feature = "metrics")]
        shielded(|| metrics::gauge!($name, "service" => $service.to_string()).set($value as f64));
    }};
}

/// Instances came and went.
pub(crate) fn membership(service: &ServiceName, joined: &[InstanceId], left: &[InstanceId]) {
    count!("fleetward_instances_joined_total", service, joined.len());
    count!("fleetward_instances_left_total", service, left.len());
    if joined.len() + left.len() > MAX_EVENTS {
        info!(%service, joined = joined.len(), left = left.len(), "many instances changed");
        return;
    }
    for instance in joined {
        info!(%service, %instance, "instance joined");
    }
    for instance in left {
        info!(%service, %instance, "instance left");
    }
}

/// How many instances the published set has.
pub(crate) fn size(service: &ServiceName, instances: usize) {
    gauge!("fleetward_instances", service, instances);
    debug!(%service, instances, "published");
}

/// Entries turned out unreadable; `now` many are.
pub(crate) fn skipped(service: &ServiceName, faults: &[(Arc<str>, Error)], now: usize) {
    gauge!("fleetward_entries_skipped", service, now);
    count!("fleetward_entries_skipped_total", service, faults.len());
    for (key, error) in faults.iter().take(MAX_EVENTS) {
        // Registry strings are hostile: no control character and no megabyte reaches a log.
        let key: String = key.chars().take(256).flat_map(char::escape_debug).collect();
        warn!(%service, %key, %error, "entry left out: it cannot be read");
    }
    if faults.len() > MAX_EVENTS {
        let more = faults.len() - MAX_EVENTS;
        warn!(%service, more, "more entries left out");
    }
}

/// Instances turned out to have more tags than are kept.
pub(crate) fn tags_cut(service: &ServiceName, cut: &[(InstanceId, usize)]) {
    let left_out: usize = cut.iter().map(|(_, left_out)| left_out).sum();
    count!("fleetward_tags_left_out_total", service, left_out);
    for (instance, left_out) in cut.iter().take(MAX_EVENTS) {
        warn!(%service, %instance, left_out, "tags left out: the instance has too many");
    }
    if cut.len() > MAX_EVENTS {
        let more = cut.len() - MAX_EVENTS;
        warn!(%service, more, "more instances have too many tags");
    }
}

/// Ids have come to be claimed by several entries; `now` many are.
pub(crate) fn clashes(service: &ServiceName, clashes: &[Clash], now: usize) {
    gauge!("fleetward_ids_claimed_twice", service, now);
    count!("fleetward_id_clashes_total", service, clashes.len());
    for Clash { instance, keys, addresses } in clashes.iter().take(MAX_EVENTS) {
        warn!(%service, %instance, keys, ?addresses, "several entries claim one id");
    }
    if clashes.len() > MAX_EVENTS {
        let more = clashes.len() - MAX_EVENTS;
        warn!(%service, more, "more ids are claimed by several entries");
    }
}

/// A list or a watch failed; `first` since it last worked.
pub(crate) fn discovery_failed(service: &ServiceName, error: &Error, first: bool) {
    count!("fleetward_discovery_failures_total", service, 1);
    if first {
        warn!(%service, %error, "the registry cannot be followed");
    } else {
        debug!(%service, %error, "the registry still cannot be followed");
    }
}

/// A watch ended without anything being wrong.
pub(crate) fn resync(service: &ServiceName, reason: &Error) {
    count!("fleetward_resyncs_total", service, 1);
    debug!(%service, error = %reason, "listing again");
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
            warn!(%service, %error, "serving the last known good set");
        }
        (Freshness::Stale { since, .. }, Freshness::Fresh) => {
            let after = now.saturating_duration_since(*since);
            info!(%service, ?after, "the set is fresh again");
        }
        _ => {}
    }
}

/// A registration was written.
pub(crate) fn registered(service: &ServiceName, instance: &InstanceId) {
    count!("fleetward_registered_total", service, 1);
    info!(%service, %instance, "registered");
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
        warn!(%service, %instance, %error, "registration in trouble");
    } else {
        debug!(%service, %instance, %error, "registration still in trouble");
    }
}

/// A registration was found gone; it is written again.
pub(crate) fn lease_lost(service: &ServiceName, instance: &InstanceId, reason: &Error) {
    count!("fleetward_leases_lost_total", service, 1);
    warn!(%service, %instance, error = %reason, "lease lost; registering again");
}

/// A registration was ended, or could not be.
pub(crate) fn deregistered(
    service: &ServiceName,
    instance: &InstanceId,
    outcome: &Result<(), Error>,
) {
    count!("fleetward_deregistered_total", service, 1);
    match outcome {
        Ok(()) => info!(%service, %instance, "deregistered"),
        Err(error) => warn!(
            %service, %instance, %error,
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
            info!(service, %instance, "connected");
        }
        (_, Some(error)) => {
            warn!(service, %instance, %error, "connection failed");
            count!("fleetward_connection_failures_total", service, 1);
        }
        _ => debug!(service, %instance, "connecting"),
    }
}

/// A health check found out something new of an endpoint.
pub(crate) fn checked(service: &str, instance: &InstanceId, to: Checked, error: Option<&Error>) {
    match (to, error) {
        (Checked::Healthy, _) => {
            info!(service, %instance, "healthy");
            count!("fleetward_found_healthy_total", service, 1);
        }
        (Checked::Unhealthy, Some(error)) => {
            warn!(service, %instance, %error, "unhealthy");
            count!("fleetward_found_unhealthy_total", service, 1);
        }
        _ => debug!(service, %instance, "health is not known yet"),
    }
}

/// A health check cannot check an endpoint.
pub(crate) fn not_checked(service: &str, instance: &InstanceId, error: &Error) {
    warn!(service, %instance, %error, "health cannot be checked");
}

/// A factory failed for one instance.
pub(crate) fn factory_failed(service: &str, instance: &InstanceId, error: &Error) {
    warn!(service, %instance, %error, "factory failed");
    count!("fleetward_factory_failures_total", service, 1);
}

/// Outlier detection leaves an endpoint out.
pub(crate) fn ejected(service: &str, instance: &InstanceId, reason: &str, time: Duration) {
    warn!(service, %instance, reason, ?time, "ejected");
    count!("fleetward_ejections_total", service, 1);
}

/// An endpoint that was ejected takes calls again.
pub(crate) fn readmitted(service: &str, instance: &InstanceId) {
    info!(service, %instance, "readmitted");
}

/// A task panicked and starts over; `first` since it last ran well.
pub(crate) fn task_panicked(service: &str, task: &str, first: bool) {
    count!("fleetward_task_panics_total", service, 1);
    if first {
        error!(service, task, "a task panicked; it starts over");
    } else {
        debug!(service, task, "a task panicked again");
    }
}

/// A view panicked; `first` since it last answered.
pub(crate) fn view_panicked(service: &str, first: bool) {
    count!("fleetward_view_panics_total", service, 1);
    if first {
        error!(service, "a view panicked; its last choice is kept");
    } else {
        debug!(service, "a view panicked again");
    }
}

/// An endpoint refuses what others do, or no longer does.
pub(crate) fn refuses(service: &str, instance: &InstanceId, news: News) {
    match news {
        News::Refuses => {
            warn!(service, %instance, "refuses what others do");
            count!("fleetward_refusing_total", service, 1);
        }
        News::Answers => {
            info!(service, %instance, "no longer refuses what others do");
        }
    }
}

/// A balancer panicked while it prepared a set.
pub(crate) fn not_prepared(service: &str) {
    error!(service, "the balancer panicked while it prepared a set");
}

/// A new set of endpoints was published.
pub(crate) fn endpoints(service: &str, ready: usize, known: usize) {
    shielded(|| tracing::trace!(target: "fleetward", service, ready, known, "endpoints"));
    gauge!("fleetward_endpoints_ready", service, ready);
    gauge!("fleetward_endpoints_known", service, known);
}

/// A call is tried again; `attempt` counts from 1.
pub(crate) fn retried(attempt: u32) {
    debug!(attempt, "retry");
    count!("fleetward_retries_total");
}

/// A further attempt was not made, for the budget is spent.
pub(crate) fn retry_refused() {
    debug!("retry refused by the budget");
    count!("fleetward_retries_refused_total");
}
