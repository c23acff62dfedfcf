//! What is asked for when instances are discovered.

use std::fmt;
use std::str::FromStr;

use fleetward_core::Error;
use fleetward_core::registry::redact;
use form_urlencoded::Serializer;

/// How fresh the answers about a service must be. See Consul's "consistency modes".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// The leader answers; in rare cases of a leader that was deposed, a little out of date.
    #[default]
    Default,
    /// Any server answers, also one without a leader: the cheapest, usually 50 ms behind.
    Stale,
    /// The leader asks the others first whether it still leads.
    Consistent,
}

impl Consistency {
    const KNOWN: [(&'static str, Self); 3] =
        [("default", Self::Default), ("stale", Self::Stale), ("consistent", Self::Consistent)];
}

impl FromStr for Consistency {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::KNOWN.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, mode)| mode).ok_or_else(|| {
            Error::invalid_input("unknown consistency; there are: default, stale, consistent")
                .with_context("option", "consistency")
        })
    }
}

#[derive(Clone)]
pub(crate) struct Query {
    pub(super) passing: bool,
    pub(super) tags: Vec<String>,
    pub(super) filter: Option<String>,
    pub(super) datacenter: Option<String>,
    pub(super) consistency: Consistency,
    pub(super) near: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) partition: Option<String>,
    pub(super) tagged_address: Option<String>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            passing: true,
            tags: Vec::new(),
            filter: None,
            datacenter: None,
            consistency: Consistency::default(),
            near: None,
            namespace: None,
            partition: None,
            tagged_address: None,
        }
    }
}

impl Query {
    pub(super) fn check(&self) -> Result<(), Error> {
        let named = [
            ("filter", &self.filter),
            ("dc", &self.datacenter),
            ("near", &self.near),
            ("namespace", &self.namespace),
            ("partition", &self.partition),
            ("tagged_address", &self.tagged_address),
        ];
        let named = named.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        let tags = self.tags.iter().map(|tag| ("tag", tag.as_str()));
        for (name, text) in named.chain(tags) {
            if text.is_empty() || text.len() > 4096 || text.chars().any(char::is_control) {
                return Err(Error::invalid_input(
                    "the value is empty, has a control character or more than 4096 bytes",
                )
                .with_context("option", name));
            }
        }
        Ok(())
    }

    /// For `/v1/health/service/…`.
    pub(crate) fn write(&self, to: &mut Serializer<'_, String>) {
        if self.passing {
            to.append_pair("passing", "1");
        }
        for tag in &self.tags {
            to.append_pair("tag", tag);
        }
        match self.consistency {
            Consistency::Default => {}
            Consistency::Stale => drop(to.append_key_only("stale")),
            Consistency::Consistent => drop(to.append_key_only("consistent")),
        }
        for (name, text) in
            [("filter", &self.filter), ("dc", &self.datacenter), ("near", &self.near)]
        {
            if let Some(text) = text {
                to.append_pair(name, text);
            }
        }
        self.write_tenancy(to);
    }

    /// What every request says, of those editions that have it.
    pub(crate) fn write_tenancy(&self, to: &mut Serializer<'_, String>) {
        for (name, text) in [("ns", &self.namespace), ("partition", &self.partition)] {
            if let Some(text) = text {
                to.append_pair(name, text);
            }
        }
    }

    pub(crate) fn is_sorted(&self) -> bool {
        self.near.is_some()
    }

    pub(crate) fn tagged_address(&self) -> Option<&str> {
        self.tagged_address.as_deref()
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &Option<String>| text.as_deref().map(redact::name);
        f.debug_struct("Query")
            .field("passing", &self.passing)
            .field("tags", &self.tags.iter().map(|tag| redact::name(tag)).collect::<Vec<_>>())
            .field("filter", &shown(&self.filter))
            .field("datacenter", &shown(&self.datacenter))
            .field("consistency", &self.consistency)
            .field("near", &shown(&self.near))
            .field("namespace", &shown(&self.namespace))
            .field("partition", &shown(&self.partition))
            .field("tagged_address", &shown(&self.tagged_address))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_encoded() {
        let query = Query {
            tags: vec!["a&b".into(), "c d".into()],
            filter: Some("Service.Meta.zone == \"a\"".into()),
            consistency: Consistency::Stale,
            ..Query::default()
        };
        let mut text = Serializer::new(String::new());
        query.write(&mut text);
        assert_eq!(
            text.finish(),
            "passing=1&tag=a%26b&tag=c+d&stale&filter=Service.Meta.zone+%3D%3D+%22a%22"
        );
    }
}
