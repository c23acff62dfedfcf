//! `outlier_detection_experimental`, gRFC A50.

use std::time::Duration;

use fleetward_core::Error;
use fleetward_core::outlier::{FailureShare, OutlierDetection, SuccessRate};

use super::json::Node;

/// Reads the settings. Only gRPC's two rules are on then, and none at all is no detection: whoever
/// writes gRPC's configuration gets what gRPC does.
pub(super) fn read(node: &Node<'_>) -> Result<Option<OutlierDetection>, Error> {
    let seconds = Duration::from_secs;
    let interval = node.get("interval", Node::duration)?.unwrap_or(seconds(10));
    let base = node.get("baseEjectionTime", Node::duration)?.unwrap_or(seconds(30));
    let max = node.get("maxEjectionTime", Node::duration)?.unwrap_or(seconds(300));
    let max_ejected = node.get("maxEjectionPercent", Node::percent)?.unwrap_or(10);
    let success_rate = node.get("successRateEjection", success_rate)?.flatten();
    let failure_share = node.get("failurePercentageEjection", failure_share)?.flatten();
    if success_rate.is_none() && failure_share.is_none() {
        return Ok(None);
    }
    let detection = OutlierDetection::default()
        .with_interval(interval)
        .with_ejection_time(base, max)
        .with_max_ejected(f64::from(max_ejected) / 100.0)
        .with_consecutive_failures(None)
        .with_moving_success_rate(None)
        .with_success_rate(success_rate)
        .with_failure_share(failure_share);
    Ok(Some(detection))
}

fn success_rate(node: &Node<'_>) -> Result<Option<SuccessRate>, Error> {
    let thousandths = node.get("stdevFactor", Node::whole)?.unwrap_or(1900);
    let mut rule = SuccessRate::default();
    // As gRPC has it: no bound but the deviations.
    rule.min_difference = 0.0;
    rule.deviations = f64::from(thousandths) / 1000.0;
    rule.min_instances = minimum_hosts(node)?;
    rule.min_requests = node.get("requestVolume", Node::whole)?.unwrap_or(100);
    Ok(is_enforced(node)?.then_some(rule))
}

fn failure_share(node: &Node<'_>) -> Result<Option<FailureShare>, Error> {
    let percent = node.get("threshold", Node::percent)?.unwrap_or(85);
    let mut rule = FailureShare::default();
    rule.threshold = f64::from(percent) / 100.0;
    rule.min_instances = minimum_hosts(node)?;
    rule.min_requests = node.get("requestVolume", Node::whole)?.unwrap_or(50);
    Ok(is_enforced(node)?.then_some(rule))
}

fn minimum_hosts(node: &Node<'_>) -> Result<usize, Error> {
    let hosts = node.get("minimumHosts", Node::whole)?.unwrap_or(5);
    Ok(usize::try_from(hosts).unwrap_or(usize::MAX))
}

/// gRPC ejects an outlier with this chance each interval. Here a rule is on or off, and to do more than
/// was asked for is worse than to say so.
fn is_enforced(node: &Node<'_>) -> Result<bool, Error> {
    let enforced = |node: &Node<'_>| match node.percent()? {
        0 => Ok(false),
        100 => Ok(true),
        _ => Err(node.error("must be 0 or 100; a rule is enforced always or never")),
    };
    Ok(node.get("enforcementPercentage", enforced)?.unwrap_or(true))
}
