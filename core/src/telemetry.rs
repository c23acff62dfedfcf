//! What fleetward tells the outside: tracing events and, with feature `metrics`, metrics.
//!
//! Everything is emitted from here, so that names stand in one place. Events have the target
//! `fleetward` and the fields `service`, `instance`, `key`, `error` where they apply. Metrics carry
//! the label `service` and no other, so their number is bounded by what a program asks for, not by
//! what a registry holds. Nothing here is called on the path of a pick.
//!
//! docs/observability.md lists all of them; a test holds the two together.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::reflector::Clash;
use crate::endpoints::Connectivity;
use crate::endpoints::endpoint::{Checked, News};
use crate::quota::Quota;
use crate::task::shield::shielded;
use crate::{Error, Freshness, InstanceId, ServiceName};

/// The number of instances at once beyond which a summary stands for the single events.
const MAX_EVENTS: usize = 32;

// A subscriber or a recorder is the user's: what it does wrong ends no task and no call.

macro_rules! debug { ($($event:tt)+) => { { shielded(|| tracing::debug!(target: "fleetward", $($event)+)); } }; }
// These are of a service, and only as many as there is room for.
macro_rules! info {
    ($lines:expr, $service:expr; $($event:tt)+) => {
        if admits($lines, &$service) {
            shielded(|| tracing::info!(target: "fleetward", $($event)+));
        }
    };
}
macro_rules! warn {
    ($lines:expr, $service:expr; $($event:tt)+) => {
        if admits($lines, &$service) {
            shielded(|| tracing::warn!(target: "fleetward", $($event)+));
        }
    };
}
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

/// Whether there is room for one more line about the service. What is left out is told with the next line that is not.
fn admits(lines: &Quota, service: &dyn Display) -> bool {
    let asked = lines.ask();
    if asked.left_out_before > 0 {
        let left_out = asked.left_out_before;
        shielded(
            || tracing::warn!(target: "fleetward", %service, left_out, "lines were left out of the log"),
        );
    }
    if asked.is_first_left_out {
        let window = Quota::WINDOW;
        shielded(|| {
            tracing::warn!(target: "fleetward", %service, ?window, "too many lines: more are left out for a while");
        });
    }
    asked.is_admitted
}

/// Instances came and went.
pub(crate) fn membership(
    lines: &Quota,
    service: &ServiceName,
    joined: &[InstanceId],
    left: &[InstanceId],
) {
    count!("fleetward_instances_joined_total", service, joined.len());
    count!("fleetward_instances_left_total", service, left.len());
    if joined.len() + left.len() > MAX_EVENTS {
        info!(lines, service; %service, joined = joined.len(), left = left.len(), "many instances changed");
        return;
    }
    for instance in joined {
        info!(lines, service; %service, %instance, "instance joined");
    }
    for instance in left {
        info!(lines, service; %service, %instance, "instance left");
    }
}

/// How many instances the published set has.
pub(crate) fn size(service: &ServiceName, instances: usize) {
    gauge!("fleetward_instances", service, instances);
    debug!(%service, instances, "published");
}

/// Entries turned out unreadable; `now` many are.
pub(crate) fn skipped(
    lines: &Quota,
    service: &ServiceName,
    faults: &[(Arc<str>, Error)],
    now: usize,
) {
    gauge!("fleetward_entries_skipped", service, now);
    count!("fleetward_entries_skipped_total", service, faults.len());
    for (key, error) in faults.iter().take(MAX_EVENTS) {
        // Registry strings are hostile: no control character and no megabyte reaches a log.
        let key: String = key.chars().take(256).flat_map(char::escape_debug).collect();
        warn!(lines, service; %service, %key, %error, "entry left out: it cannot be read");
    }
    if faults.len() > MAX_EVENTS {
        let more = faults.len() - MAX_EVENTS;
        warn!(lines, service; %service, more, "more entries left out");
    }
}

/// Instances turned out to have more tags than are kept.
pub(crate) fn tags_cut(lines: &Quota, service: &ServiceName, cut: &[(InstanceId, usize)]) {
    let left_out: usize = cut.iter().map(|(_, left_out)| left_out).sum();
    count!("fleetward_tags_left_out_total", service, left_out);
    for (instance, left_out) in cut.iter().take(MAX_EVENTS) {
        warn!(lines, service; %service, %instance, left_out, "tags left out: the instance has too many");
    }
    if cut.len() > MAX_EVENTS {
        let more = cut.len() - MAX_EVENTS;
        warn!(lines, service; %service, more, "more instances have too many tags");
    }
}

/// Ids have come to be claimed by several entries; `now` many are.
pub(crate) fn clashes(lines: &Quota, service: &ServiceName, clashes: &[Clash], now: usize) {
    gauge!("fleetward_ids_claimed_twice", service, now);
    count!("fleetward_id_clashes_total", service, clashes.len());
    for Clash { instance, keys, addresses } in clashes.iter().take(MAX_EVENTS) {
        warn!(lines, service; %service, %instance, keys, ?addresses, "several entries claim one id");
    }
    if clashes.len() > MAX_EVENTS {
        let more = clashes.len() - MAX_EVENTS;
        warn!(lines, service; %service, more, "more ids are claimed by several entries");
    }
}

/// A list or a watch failed; `first` since it last worked.
pub(crate) fn discovery_failed(lines: &Quota, service: &ServiceName, error: &Error, first: bool) {
    count!("fleetward_discovery_failures_total", service, 1);
    if first {
        warn!(lines, service; %service, %error, "the registry cannot be followed");
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
    lines: &Quota,
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
            warn!(lines, service; %service, %error, "serving the last known good set");
        }
        (Freshness::Stale { since, .. }, Freshness::Fresh) => {
            let after = now.saturating_duration_since(*since);
            info!(lines, service; %service, ?after, "the set is fresh again");
        }
        _ => {}
    }
}

/// A registration was written.
pub(crate) fn registered(lines: &Quota, service: &ServiceName, instance: &InstanceId) {
    count!("fleetward_registered_total", service, 1);
    info!(lines, service; %service, %instance, "registered");
}

/// An attempt to register or to renew failed; `first` since it last worked.
pub(crate) fn registration_failed(
    lines: &Quota,
    service: &ServiceName,
    instance: &InstanceId,
    error: &Error,
    first: bool,
) {
    count!("fleetward_registration_failures_total", service, 1);
    if first {
        warn!(lines, service; %service, %instance, %error, "registration in trouble");
    } else {
        debug!(%service, %instance, %error, "registration still in trouble");
    }
}

/// A registration was found gone; it is written again.
pub(crate) fn lease_lost(
    lines: &Quota,
    service: &ServiceName,
    instance: &InstanceId,
    reason: &Error,
) {
    count!("fleetward_leases_lost_total", service, 1);
    warn!(lines, service; %service, %instance, error = %reason, "lease lost; registering again");
}

/// A registration was ended, or could not be.
pub(crate) fn deregistered(
    lines: &Quota,
    service: &ServiceName,
    instance: &InstanceId,
    outcome: &Result<(), Error>,
) {
    count!("fleetward_deregistered_total", service, 1);
    match outcome {
        Ok(()) => info!(lines, service; %service, %instance, "deregistered"),
        Err(error) => warn!(lines, service; %service, %instance, %error,
            "not deregistered; the entry ends with its time to live"
        ),
    }
}

/// An endpoint connected, is connecting, or failed to connect; so many failures since it was connected last, this one
/// included.
pub(crate) fn connectivity(
    lines: &Quota,
    service: &str,
    instance: &InstanceId,
    to: Connectivity,
    error: Option<&Error>,
    failures: u32,
) {
    match (to, error) {
        (Connectivity::Ready, _) => {
            info!(lines, service; service, %instance, failures, "connected");
        }
        (_, Some(error)) => {
            count!("fleetward_connection_failures_total", service, 1);
            if failures == 1 {
                warn!(lines, service; service, %instance, %error, "connection failed");
            } else {
                debug!(service, %instance, %error, failures, "connection failed again");
            }
        }
        _ => debug!(service, %instance, "connecting"),
    }
}

/// A health check found out something new of an endpoint.
pub(crate) fn checked(
    lines: &Quota,
    service: &str,
    instance: &InstanceId,
    to: Checked,
    error: Option<&Error>,
) {
    match (to, error) {
        (Checked::Healthy, _) => {
            info!(lines, service; service, %instance, "healthy");
            count!("fleetward_found_healthy_total", service, 1);
        }
        (Checked::Unhealthy, Some(error)) => {
            warn!(lines, service; service, %instance, %error, "unhealthy");
            count!("fleetward_found_unhealthy_total", service, 1);
        }
        _ => debug!(service, %instance, "health is not known yet"),
    }
}

/// A health check cannot check an endpoint.
pub(crate) fn not_checked(lines: &Quota, service: &str, instance: &InstanceId, error: &Error) {
    warn!(lines, service; service, %instance, %error, "health cannot be checked");
}

/// A factory failed for one instance, for the `failures`th time.
pub(crate) fn factory_failed(
    lines: &Quota,
    service: &str,
    instance: &InstanceId,
    error: &Error,
    failures: u32,
) {
    count!("fleetward_factory_failures_total", service, 1);
    if failures == 1 {
        warn!(lines, service; service, %instance, %error, "factory failed");
    } else {
        debug!(service, %instance, %error, failures, "factory failed again");
    }
}

/// A factory that had failed has made the service.
pub(crate) fn factory_works(lines: &Quota, service: &str, instance: &InstanceId, failures: u32) {
    info!(lines, service; service, %instance, failures, "the factory works again");
}

/// Outlier detection leaves an endpoint out.
pub(crate) fn ejected(
    lines: &Quota,
    service: &str,
    instance: &InstanceId,
    reason: &str,
    time: Duration,
) {
    warn!(lines, service; service, %instance, reason, ?time, "ejected");
    count!("fleetward_ejections_total", service, 1);
}

/// An endpoint that was ejected takes calls again.
pub(crate) fn readmitted(lines: &Quota, service: &str, instance: &InstanceId) {
    info!(lines, service; service, %instance, "readmitted");
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
pub(crate) fn refuses(lines: &Quota, service: &str, instance: &InstanceId, news: News) {
    match news {
        News::Refuses => {
            warn!(lines, service; service, %instance, "refuses what others do");
            count!("fleetward_refusing_total", service, 1);
        }
        News::Answers => {
            info!(lines, service; service, %instance, "no longer refuses what others do");
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
