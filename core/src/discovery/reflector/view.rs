//! The published side of a reflector: when a snapshot is made, and how far it can be trusted.

use std::sync::Arc;

use tokio::time::Instant;

use super::ReflectorConfig;
use super::table::{Origin, Table};
use crate::discovery::{EmptySetPolicy, Entry, KeyChange, Publisher};
use crate::model::ServiceSettings;
use crate::quota::Quota;
use crate::{Error, ErrorKind, Freshness, ServiceName, Snapshot, telemetry};

/// Everything the reflector knows, and the pace at which it tells it. It never waits; the driver
/// calls [`tick`](Self::tick) when [`next_tick`](Self::next_tick) has come.
#[derive(Debug)]
pub(super) struct View {
    service: ServiceName,
    publisher: Publisher,
    config: ReflectorConfig,
    table: Table,
    settings: Option<Arc<ServiceSettings>>,
    /// Whether a complete set was ever heard.
    listed: bool,
    /// Why the registry cannot be asked just now.
    trouble: Option<Error>,
    stale_since: Option<Instant>,
    unpublished: bool,
    published_at: Option<Instant>,
    lines: Quota,
}

impl View {
    pub(super) fn new(service: ServiceName, publisher: Publisher, config: ReflectorConfig) -> Self {
        Self {
            service,
            publisher,
            config,
            table: Table::default(),
            settings: None,
            listed: false,
            trouble: None,
            stale_since: None,
            unpublished: false,
            published_at: None,
            lines: Quota::default(),
        }
    }

    /// Takes a complete set: the registry works.
    pub(super) fn replace(
        &mut self,
        entries: Vec<Entry>,
        settings: Option<Arc<ServiceSettings>>,
        origin: Origin,
    ) -> Result<(), Error> {
        let limit = self.config.max_instances;
        self.check_limit(entries.iter().map(|entry| entry.instances().len()).sum())?;
        let origin = if self.listed { origin } else { Origin::First };
        self.table.replace(entries, origin, self.config.empty_set, limit, Instant::now());
        self.settings = settings;
        self.listed = true;
        self.trouble = None;
        self.touch();
        Ok(())
    }

    /// Takes changes of single keys.
    pub(super) fn apply(&mut self, changes: Vec<KeyChange>) -> Result<(), Error> {
        self.check_limit(self.table.size_after(&changes))?;
        changes.into_iter().for_each(|change| self.table.apply(change));
        self.touch();
        Ok(())
    }

    /// Says that the registry cannot be asked. The set stays as it is.
    pub(super) fn fail(&mut self, error: Error) {
        telemetry::discovery_failed(&self.lines, &self.service, &error, self.trouble.is_none());
        self.trouble = Some(error);
        self.touch();
    }

    /// Something was left half done. What is known stays, and a new list is on its way.
    pub(super) fn panicked(&mut self, error: Error) {
        self.table.rebuild();
        self.fail(error);
    }

    /// When there is something to do without any news.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let publish = self.unpublished.then(|| self.publish_due()).flatten();
        self.expiry().into_iter().chain(publish).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        if self.expiry().is_some_and(|expiry| expiry <= now) {
            self.table.sweep(now);
            self.unpublished = true;
        }
        if self.unpublished && self.publish_due().is_none_or(|due| due <= now) {
            self.publish(now);
        }
    }

    fn touch(&mut self) {
        let faults = self.table.take_faults();
        if !faults.is_empty() {
            telemetry::skipped(&self.lines, &self.service, &faults, self.table.unreadable());
        }
        telemetry::tags_cut(&self.lines, &self.service, &self.table.take_cut());
        self.unpublished = true;
        self.tick();
    }

    /// A hold ends only while the registry can be asked: during an outage nothing leaves the set,
    /// and the list that ends the outage is the one that decides.
    fn expiry(&self) -> Option<Instant> {
        self.table.next_expiry().filter(|_| self.trouble.is_none())
    }

    /// The leading edge: at once after a quiet time, else when the interval is over.
    fn publish_due(&self) -> Option<Instant> {
        self.published_at?.checked_add(self.config.min_publish_interval)
    }

    fn publish(&mut self, now: Instant) {
        self.unpublished = false;
        let current = self.publisher.current();
        let freshness = self.freshness(now);
        let rendered = self.table.render();
        telemetry::clashes(
            &self.lines,
            &self.service,
            &self.table.take_clashes(),
            self.table.claimed(),
        );
        let (skipped, fault) = (self.table.unreadable(), self.table.fault());
        let same = current.freshness.is_like(&freshness)
            && current.skipped == skipped
            && current.settings == self.settings;
        if current.skipped != skipped {
            telemetry::skipped(&self.lines, &self.service, &[], skipped);
        }
        telemetry::freshness(&self.lines, &self.service, &current.freshness, &freshness, now);
        if rendered.is_none() && same {
            return self.publisher.replace_reasons(freshness, fault);
        }
        let instances = match rendered {
            Some((instances, difference)) => {
                telemetry::membership(
                    &self.lines,
                    &self.service,
                    &difference.joined,
                    &difference.left,
                );
                telemetry::size(&self.service, instances.len());
                instances
            }
            None => current.instances.clone(),
        };
        self.published_at = Some(now);
        let settings = self.settings.clone();
        let next =
            Snapshot { instances, freshness, skipped, fault, settings, ..Snapshot::pending() };
        self.publisher.publish_sorted(next);
    }

    fn freshness(&mut self, now: Instant) -> Freshness {
        if !self.listed {
            return Freshness::Pending { error: self.trouble.clone() };
        }
        let held = (self.table.held() > 0).then(|| self.held_error());
        match self.trouble.clone().or(held) {
            Some(error) => Freshness::Stale { since: *self.stale_since.get_or_insert(now), error },
            None => {
                self.stale_since = None;
                Freshness::Fresh
            }
        }
    }

    fn held_error(&self) -> Error {
        let message = match self.config.empty_set {
            EmptySetPolicy::HoldFor(time) => format!(
                "entries vanished in bulk; the empty-set policy holds them for {time:?} unless \
                 they are seen again"
            ),
            _ => "entries vanished in bulk; the empty-set policy holds them until they are seen \
                  again"
                .to_owned(),
        };
        Error::new(ErrorKind::Implausible, message)
            .with_operation("list")
            .with_context("service", &self.service)
            .with_context("held", self.table.held())
    }

    fn check_limit(&self, entries: usize) -> Result<(), Error> {
        let limit = self.config.max_instances;
        if entries <= limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::LimitExceeded,
            "the service has more entries than max_instances; the last known good set is kept",
        )
        .with_operation("list")
        .with_context("service", &self.service)
        .with_context("entries", entries)
        .with_context("limit", limit))
    }
}
