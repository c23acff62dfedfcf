//! From what Consul says of a service to entries.

use std::collections::BTreeMap;

use fleetward_core::discovery::Entry;
use fleetward_core::model::Tags;
use fleetward_core::{Error, Instance, Metadata};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::address::{Place, Tagged};
use super::health::{Check, Health};
use super::{MAX_WEIGHT, fact, key, meta};
use crate::config::Query;

/// The entries of an answer of `/v1/health/service/…`. One that cannot be read spoils no other.
pub(crate) fn entries(body: &[u8], query: &Query) -> Result<Vec<Entry>, Error> {
    let raw: Option<Vec<&RawValue>> = serde_json::from_slice(body)
        .map_err(|why| Error::invalid_data(format!("Consul's answer cannot be read: {why}")))?;
    let raw = raw.unwrap_or_default();
    let read = raw.iter().enumerate().map(|(rank, text)| {
        match serde_json::from_str::<HealthEntry>(text.get()) {
            Ok(found) => {
                let key = format!("{}/{}", found.node.node, found.service.id);
                let revision = found.service.modify_index;
                Entry::new(key, found.instance(query, rank)).with_revision(revision)
            }
            Err(why) => {
                let error = Error::invalid_data(format!("the entry cannot be read: {why}"));
                Entry::new(format!("#{rank}"), Err(error))
            }
        }
    });
    Ok(read.collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: Node,
    service: Service,
    #[serde(default, deserialize_with = "or_default")]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    #[serde(default, deserialize_with = "or_default")]
    address: String,
    #[serde(default, deserialize_with = "or_default")]
    datacenter: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    address: String,
    #[serde(default, deserialize_with = "or_default")]
    tagged_addresses: BTreeMap<String, Option<Tagged>>,
    #[serde(default, deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    port: i64,
    #[serde(default, deserialize_with = "or_default")]
    weights: Weights,
    #[serde(default, deserialize_with = "or_default")]
    modify_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Weights {
    passing: i64,
    warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

impl HealthEntry {
    fn instance(&self, query: &Query, rank: usize) -> Result<Instance, Error> {
        let Service { meta, tagged_addresses: tagged, .. } = &self.service;
        let place = Place {
            address: &self.service.address,
            port: self.service.port,
            node_address: &self.node.address,
            tagged,
        };
        let mut address = place.address(query.tagged_address())?;
        if let (Some(scheme), None) = (meta.get(meta::SCHEME), address.scheme()) {
            address = format!("{scheme}://{}", address.authority()).parse()?;
        }
        let health = Health::of(&self.checks);
        let mut instance = Instance::new(address)?
            .with_weight(self.weight(health))
            .with_health(health.into())
            .with_tags(Tags::new(self.service.tags.iter().map(String::as_str)))
            .with_metadata(self.metadata(query, rank)?);
        instance = match meta.get(meta::ID) {
            Some(id) => instance.with_id(id)?,
            // The ids of services are unique only at one agent.
            None => instance.with_id(&format!("{}/{}", self.node.node, self.service.id))?,
        };
        if let Some(zone) = meta.get(meta::ZONE) {
            instance = instance.with_zone(zone.as_str());
        }
        // kratos has the version in a tag.
        let tagged = self.service.tags.iter().find_map(|tag| tag.strip_prefix("version="));
        if let Some(version) = meta.get(meta::VERSION).map(String::as_str).or(tagged) {
            instance = instance.with_version(version);
        }
        Ok(instance)
    }

    fn weight(&self, health: Health) -> u32 {
        let Weights { passing, warning } = self.service.weights;
        let cap = |weight: i64| weight.clamp(0, i64::from(MAX_WEIGHT)) as u32;
        let exact = self.service.meta.get(meta::WEIGHT).and_then(|text| text.parse().ok());
        match health {
            Health::Passing => exact.unwrap_or_else(|| cap(passing)),
            Health::Warning => {
                exact.map_or_else(|| cap(warning), |exact: u32| exact.min(cap(warning)))
            }
            Health::Critical | Health::Maintenance => 0,
        }
    }

    fn metadata(&self, query: &Query, rank: usize) -> Result<Metadata, Error> {
        let mut metadata = Metadata::default();
        // In what we wrote these two are the instance's own, and no metadata beside.
        let ours = self.service.meta.contains_key(meta::ID);
        let own = |name: &str| ours && [meta::ZONE, meta::VERSION].contains(&name);
        for (name, value) in self.service.meta.iter().filter(|(name, _)| !own(name)) {
            if let Some(hex) = name.strip_prefix(meta::ESCAPED) {
                metadata.insert(key::from_hex(hex).unwrap_or_else(|| name.clone()), value)?;
            } else if !name.starts_with(meta::OURS) {
                metadata.insert(name, value)?;
            }
        }
        // Beside what the service says of itself, for which Consul takes half of what there is room for.
        metadata.insert(fact::NODE, self.node.node.as_str())?;
        if !self.node.datacenter.is_empty() {
            metadata.insert(fact::DATACENTER, self.node.datacenter.as_str())?;
        }
        if query.is_sorted() {
            metadata.insert(fact::RANK, rank.to_string())?;
        }
        Ok(metadata)
    }
}

/// Go writes `null` for what is empty.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
