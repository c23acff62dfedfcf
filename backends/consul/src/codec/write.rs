//! From an instance to what Consul is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetward_core::model::Host;
use fleetward_core::{Error, ErrorKind, Instance, ServiceName};
use serde::Serialize;
use serde_json::{Value, json};

use super::{MAX_WEIGHT, fact, key, meta};
use crate::config::{ConsulCheck, ConsulConfig};

/// The body of `/v1/agent/service/register`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Registration {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    tags: Vec<String>,
    address: String,
    port: u16,
    meta: BTreeMap<String, String>,
    weights: Value,
    check: Value,
}

/// Unique at an agent: services' ids are, over all services, and no service's name has a colon.
pub(crate) fn service_id(service: &ServiceName, instance: &Instance) -> String {
    format!("{service}:{}", key::escape_id(instance.id().as_str()))
}

impl Registration {
    pub(crate) fn new(
        config: &ConsulConfig,
        service: &ServiceName,
        instance: &Instance,
        lease: &str,
        ttl: Duration,
        status: &'static str,
    ) -> Result<Self, Error> {
        let address = match instance.address().host() {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.to_string(),
        };
        let id = service_id(service, instance);
        let weight = instance.weight().clamp(1, MAX_WEIGHT);
        Ok(Self {
            check: check(config, instance, &id, ttl, status),
            id,
            name: service.to_string(),
            tags: tags(config, instance)?,
            address,
            port: instance.address().port(),
            meta: metadata(instance, lease)?,
            weights: json!({ "Passing": weight, "Warning": weight }),
        })
    }
}

/// The configuration's and the instance's own, each once.
fn tags(config: &ConsulConfig, instance: &Instance) -> Result<Vec<String>, Error> {
    let mut tags = config.register_tags().to_vec();
    let own = instance.tags();
    if own.left_out() > 0 {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            "the instance has more tags than are kept, so it would be registered without some",
        ));
    }
    for tag in own.iter().filter(|tag| !config.register_tags().iter().any(|other| other == tag)) {
        tags.push(tag.to_owned());
    }
    Ok(tags)
}

fn metadata(instance: &Instance, lease: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut pairs = BTreeMap::new();
    let own = instance.metadata().iter().filter(|(name, _)| !name.starts_with(fact::OURS));
    for (name, value) in own {
        let taken = name.starts_with(meta::OURS) || [meta::ZONE, meta::VERSION].contains(&name);
        let name = match key::is_meta_key(name) && !taken {
            true => name.to_owned(),
            false => format!("{}{}", meta::ESCAPED, key::to_hex(name)),
        };
        pairs.insert(name, value.to_owned());
    }
    let mut add = |name: &str, value: &str| drop(pairs.insert(name.to_owned(), value.to_owned()));
    add(meta::ID, instance.id().as_str());
    add(meta::LEASE, lease);
    if let Some(zone) = instance.zone() {
        add(meta::ZONE, zone);
    }
    if let Some(version) = instance.version() {
        add(meta::VERSION, version);
    }
    if let Some(scheme) = instance.address().scheme() {
        add(meta::SCHEME, scheme);
    }
    if !(1..=MAX_WEIGHT).contains(&instance.weight()) {
        add(meta::WEIGHT, &instance.weight().to_string());
    }
    let fits = |(name, value): (&String, &String)| name.len() <= 128 && value.len() <= 512;
    if pairs.len() > 64 || !pairs.iter().all(fits) {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            "Consul takes 64 pairs of metadata, a few of them ours, with keys of 128 bytes (58 with characters other than letters, digits, - and _) and values of 512",
        ));
    }
    Ok(pairs)
}

fn check(
    config: &ConsulConfig,
    instance: &Instance,
    id: &str,
    ttl: Duration,
    status: &'static str,
) -> Value {
    let authority = instance.address().authority();
    let mut check = match config.health_check() {
        ConsulCheck::Ttl => json!({ "TTL": millis(ttl) }),
        ConsulCheck::Tcp { .. } => json!({ "TCP": authority }),
        ConsulCheck::Http { path, tls, .. } => {
            let scheme = if *tls { "https" } else { "http" };
            json!({ "HTTP": format!("{scheme}://{authority}{path}") })
        }
        ConsulCheck::Grpc { service, tls, .. } => {
            let slash = if service.is_empty() { "" } else { "/" };
            json!({ "GRPC": format!("{authority}{slash}{service}"), "GRPCUseTLS": tls })
        }
    };
    if let ConsulCheck::Tcp { interval, timeout }
    | ConsulCheck::Http { interval, timeout, .. }
    | ConsulCheck::Grpc { interval, timeout, .. } = config.health_check()
    {
        check["Interval"] = millis(*interval).into();
        check["Timeout"] = millis(*timeout).into();
    }
    check["CheckID"] = format!("service:{id}").into();
    check["Status"] = status.into();
    check["DeregisterCriticalServiceAfter"] = millis(config.deregister_after()).into();
    check
}

/// Go's format of a length of time.
fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}
