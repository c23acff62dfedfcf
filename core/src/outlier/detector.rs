//! The rules, applied.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::OutlierDetection;
use super::host::Host;
use super::statistics::success_rate_threshold;
use crate::endpoints::Member;
use crate::endpoints::endpoint::{Admission, Window};
use crate::{InstanceId, telemetry};

/// Finds outliers among a service's instances, ejects them, and takes them back.
///
/// It marks the [`Member`]s it was given; [`Member::is_healthy`] tells. It has no clock:
/// [`run`](Self::run) it when [`next_wake`](Self::next_wake) says so, and when an endpoint has failed
/// so often in a row that it may be ejected at once. An [`Endpointer`](crate::Endpointer) does all
/// that by itself; this is for those who hold endpoints otherwise, and for simulations.
///
/// ```
/// use fleetward_core::Instance;
/// use fleetward_core::endpoints::{Member, Outcome};
/// use fleetward_core::outlier::{OutlierDetection, OutlierDetector};
/// use tokio::time::Instant;
/// let now = Instant::now();
/// let mut detector = OutlierDetector::new(OutlierDetection::default(), 1, now);
/// let members = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| {
///     Member::detached(Instance::new(address).unwrap())
/// });
/// for member in &members {
///     detector.add(member);
/// }
/// for _ in 0..5 {
///     members[0].begin_at(now).finish_at(Outcome::FAILURE, now);
/// }
/// assert!(detector.run(now), "something changed");
/// assert!(!members[0].is_healthy() && members[1].is_healthy());
/// ```
pub struct OutlierDetector {
    config: OutlierDetection,
    hosts: BTreeMap<InstanceId, Host>,
    ejected: usize,
    /// When the first ejection is over, or sooner.
    over: Option<Instant>,
    rng: fastrand::Rng,
    /// When outcomes were last collected.
    collected: Instant,
    interval_began: Instant,
}

/// How often outcomes are collected.
const TICK: Duration = Duration::from_secs(1);

/// How long the call that tries an instance may keep others from trying it.
const PROBE_TIME: Duration = Duration::from_secs(10);

/// Why an instance is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    InARow,
    Refuses,
    Moving,
    SuccessRate,
    FailureShare,
    Probe,
}

impl OutlierDetector {
    /// Detects nothing until [`add`](Self::add). The jitter of ejection times follows from `seed`.
    pub fn new(config: OutlierDetection, seed: u64, now: Instant) -> Self {
        Self {
            config,
            hosts: BTreeMap::new(),
            ejected: 0,
            over: None,
            rng: fastrand::Rng::with_seed(seed),
            collected: now,
            interval_began: now,
        }
    }

    /// Watches an endpoint; if one of the same id is watched already, this one in its place.
    pub fn add(&mut self, member: &Member) {
        let id = member.instance().id().clone();
        let before = self.hosts.insert(id, Host::new(member.state().clone()));
        self.forget(before);
    }

    /// Forgets an endpoint; if it is ejected, it no longer is.
    pub fn remove(&mut self, instance: &InstanceId) {
        let before = self.hosts.remove(instance);
        self.forget(before);
    }

    fn forget(&mut self, host: Option<Host>) {
        let Some(host) = host.filter(Host::is_ejected) else { return };
        self.ejected -= 1;
        host.state.set_admission(Admission::Open);
    }

    /// How many are ejected now.
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// When to [`run`](Self::run) at the latest; `None` while there is nothing to watch.
    pub fn next_wake(&self) -> Option<Instant> {
        let tick = (!self.hosts.is_empty()).then(|| self.collected + TICK);
        [self.over, tick].into_iter().flatten().min()
    }

    /// Looks at everything there is to look at by now. Whether an endpoint was ejected, may be tried
    /// again or is back.
    pub fn run(&mut self, now: Instant) -> bool {
        let mut changed = self.settle(now);
        changed |= self.in_a_row(now);
        changed |= self.eject_those(Rule::Refuses, now, |host| host.state.refuses_all(now));
        let elapsed = now.saturating_duration_since(self.collected);
        if elapsed >= TICK {
            self.collected = now;
            for host in self.hosts.values_mut() {
                host.collect(elapsed, self.config.moving.as_ref());
            }
            changed |= self.moving(now);
        }
        if now.saturating_duration_since(self.interval_began) >= self.config.interval {
            self.interval_began = now;
            changed |= self.success_rate(now);
            changed |= self.failure_share(now);
            for host in self.hosts.values_mut() {
                host.window = Window::default();
                if !host.is_ejected() {
                    host.ejections = host.ejections.saturating_sub(1);
                }
            }
        }
        changed
    }

    /// Probes that were answered, and ejections whose time is over.
    fn settle(&mut self, now: Instant) -> bool {
        let mut changed = false;
        let mut relapsed = Vec::new();
        self.over = None;
        if self.ejected == 0 {
            return false;
        }
        for (id, host) in &mut self.hosts {
            let Some(until) = host.ejected_until else { continue };
            match host.state.admission() {
                Admission::Open => {
                    host.ejected_until = None;
                    self.ejected -= 1;
                    telemetry::readmitted(host.state.lines(), host.state.service(), id);
                    changed = true;
                }
                Admission::Ejected if now >= until => {
                    host.offer();
                    changed = true;
                }
                Admission::Ejected => {
                    self.over = Some(self.over.map_or(until, |over| over.min(until)));
                }
                Admission::Relapsed => relapsed.push(id.clone()),
                Admission::Probing => host.await_probe(now, PROBE_TIME),
                Admission::Probe => {}
            }
        }
        for id in relapsed {
            self.eject(&id, Rule::Probe, now);
            changed = true;
        }
        changed
    }

    fn in_a_row(&mut self, now: Instant) -> bool {
        let Some(most) = self.config.consecutive_failures else { return false };
        self.eject_those(Rule::InARow, now, |host| host.state.outcomes.in_a_row() >= most)
    }

    fn moving(&mut self, now: Instant) -> bool {
        let Some(rule) = self.config.moving.clone() else { return false };
        self.eject_those(Rule::Moving, now, |host| host.fails_often(&rule))
    }

    fn success_rate(&mut self, now: Instant) -> bool {
        let Some(rule) = self.config.success_rate.clone() else { return false };
        let rates = self.rates(rule.min_requests);
        if rates.len() < rule.min_instances {
            return false;
        }
        let threshold = success_rate_threshold(&rates, rule.deviations, rule.min_difference);
        self.eject_those(Rule::SuccessRate, now, |host| {
            let rate =
                host.window.success_rate().filter(|_| host.window.total() >= rule.min_requests);
            rate.zip(threshold).is_some_and(|(rate, threshold)| rate < threshold)
        })
    }

    fn failure_share(&mut self, now: Instant) -> bool {
        let Some(rule) = self.config.failure_share.clone() else { return false };
        if self.rates(rule.min_requests).len() < rule.min_instances {
            return false;
        }
        self.eject_those(Rule::FailureShare, now, |host| {
            let rate =
                host.window.success_rate().filter(|_| host.window.total() >= rule.min_requests);
            rate.is_some_and(|rate| 1.0 - rate > rule.threshold)
        })
    }

    /// The success rates of those with enough requests.
    fn rates(&self, min_requests: u32) -> Vec<f64> {
        let hosts = self.hosts.values().filter(|host| host.window.total() >= min_requests.max(1));
        hosts.filter_map(|host| host.window.success_rate()).collect()
    }

    fn eject_those(
        &mut self,
        rule: Rule,
        now: Instant,
        is_outlier: impl Fn(&Host) -> bool,
    ) -> bool {
        let found = self.hosts.iter().filter(|(_, host)| !host.is_ejected() && is_outlier(host));
        let mut found: Vec<_> = found.map(|(id, _)| id.clone()).collect();
        // Where not all of them may go, it is not always the first ones by name.
        self.rng.shuffle(&mut found);
        let mut changed = false;
        for id in found {
            if !self.may_eject() {
                break;
            }
            self.eject(&id, rule, now);
            changed = true;
        }
        changed
    }

    fn may_eject(&self) -> bool {
        let (ejected, all) = (self.ejected, self.hosts.len());
        (ejected as f64) < all as f64 * self.config.max_ejected && ejected + 1 < all
    }

    fn eject(&mut self, id: &InstanceId, rule: Rule, now: Instant) {
        let jitter = 0.9 + 0.2 * self.rng.f64();
        let Some(host) = self.hosts.get_mut(id) else { return };
        let time = match rule {
            Rule::SuccessRate | Rule::FailureShare => {
                self.config.base_ejection.saturating_mul(host.ejections.saturating_add(1))
            }
            Rule::InARow | Rule::Refuses | Rule::Moving | Rule::Probe => {
                self.config.first_ejection.saturating_mul(1 << host.ejections.min(30))
            }
        };
        let time = time.min(self.config.max_ejection).mul_f64(jitter);
        let until = now + time;
        self.ejected += usize::from(!host.is_ejected());
        host.eject(until);
        self.over = Some(self.over.map_or(until, |over| over.min(until)));
        telemetry::ejected(host.state.lines(), host.state.service(), id, rule.describe(), time);
    }
}

impl Rule {
    fn describe(self) -> &'static str {
        match self {
            Self::InARow => "failures in a row",
            Self::Refuses => "refuses several operations that others do",
            Self::Moving => "low success rate of late",
            Self::SuccessRate => "lower success rate than the others",
            Self::FailureShare => "high share of failures",
            Self::Probe => "failed again when it was tried",
        }
    }
}

impl fmt::Debug for OutlierDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutlierDetector")
            .field("config", &self.config)
            .field("hosts", &self.hosts.len())
            .field("ejected", &self.ejected())
            .finish_non_exhaustive()
    }
}
