//! What an agent says of a registration: whose it is, and how well.

use std::collections::BTreeMap;

use fleetward_core::Error;
use serde::Deserialize;

use super::meta;
use super::read::or_default;

/// A service at an agent, with its checks.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Found {
    service: Option<Service>,
    #[serde(default, deserialize_with = "or_default")]
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default, deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default, rename = "CheckID")]
    check_id: String,
    #[serde(default)]
    status: String,
    /// The reason, where it is maintenance.
    #[serde(default)]
    notes: String,
    #[serde(default, rename = "ServiceID")]
    service_id: String,
    #[serde(default)]
    r#type: String,
}

impl Found {
    /// Reads an answer of `/v1/agent/health/service/id/…`.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|why| unreadable(&why))
    }

    /// Whether anything stands under the id.
    pub(crate) fn stands(&self) -> bool {
        self.service.is_some()
    }

    /// Which registration of ours it is, if it is one.
    pub(crate) fn lease(&self) -> Option<&str> {
        self.service.as_ref()?.meta.get(meta::LEASE).map(String::as_str)
    }

    /// Why an operator has put the service into maintenance, if one has.
    pub(crate) fn maintenance(&self) -> Option<&str> {
        let set = self.checks.iter().find(|check| check.is_service_maintenance());
        set.map(|check| check.notes.as_str())
    }

    /// Whether whoever has registered it does not say any more that it is well: all checks of the
    /// service are critical, but for what an operator has set.
    pub(crate) fn is_dead(&self) -> bool {
        let own = || {
            let checks = self.checks.iter().filter(|check| !check.service_id.is_empty());
            checks.filter(|check| !check.is_service_maintenance())
        };
        own().next().is_some() && own().all(|check| check.status == "critical")
    }
}

/// The checks of a service at an agent.
#[derive(Debug, Default)]
pub(crate) struct Checks(BTreeMap<String, Check>);

impl Checks {
    /// Reads an answer of `/v1/agent/checks`, of which those of this service count.
    pub(crate) fn parse(body: &[u8], service_id: &str) -> Result<Self, Error> {
        let all: Option<BTreeMap<String, Check>> =
            serde_json::from_slice(body).map_err(|why| unreadable(&why))?;
        let mut all = all.unwrap_or_default();
        all.retain(|_, check| check.service_id == service_id);
        Ok(Self(all))
    }

    /// Those that must go before the service is registered again with a check of this id and kind.
    /// What an operator has set stays. A check of another kind under our id would go on beside the
    /// new one; `foreign` ones belong to a registration that is not ours and is replaced.
    pub(crate) fn stale<'a>(
        &'a self,
        own_id: &'a str,
        kind: &'a str,
        foreign: bool,
    ) -> impl Iterator<Item = &'a str> {
        let stale = move |check: &&Check| {
            if check.is_service_maintenance() {
                return false;
            }
            match check.check_id == own_id {
                // Consul keeps the status of a check that it knows. A heartbeat changes that at
                // once, a run of another check only later.
                true => check.r#type != kind || kind != "ttl" && check.status != "passing",
                false => foreign,
            }
        };
        self.0.values().filter(stale).map(|check| check.check_id.as_str())
    }
}

impl Check {
    fn is_service_maintenance(&self) -> bool {
        self.check_id.starts_with("_service_maintenance:")
    }
}

fn unreadable(why: &serde_json::Error) -> Error {
    Error::invalid_data(format!("Consul's answer cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_dead_when_all_that_it_says_of_itself_is_critical() {
        let found = |checks: &str| {
            let text = format!(r#"{{"Service":{{"ID":"a"}},"Checks":[{checks}]}}"#);
            Found::parse(text.as_bytes()).unwrap()
        };
        let check = |id: &str, service: &str, status: &str| {
            format!(
                r#"{{"CheckID":"{id}","ServiceID":"{service}","Status":"{status}","Notes":"x"}}"#
            )
        };
        let node = check("serfHealth", "", "critical");
        let kept = check("_service_maintenance:a", "a", "critical");
        let (good, bad) = (check("1", "a", "passing"), check("2", "a", "critical"));
        assert!(!found("").is_dead());
        assert!(!found(&node).is_dead() && !found(&kept).is_dead() && !found(&good).is_dead());
        assert!(found(&bad).is_dead() && !found(&format!("{good},{bad}")).is_dead());
        assert!(found(&format!("{kept},{bad}")).is_dead());
        assert_eq!(found(&format!("{bad},{kept}")).maintenance(), Some("x"));
        let nothing = br#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#;
        assert!(!Found::parse(nothing).unwrap().stands());
    }

    #[test]
    fn what_an_operator_has_set_is_never_stale() {
        let check = |id: &str, kind: &str, status: &str| {
            let check = format!(r#""ServiceID":"a","Status":"{status}","Type":"{kind}""#);
            format!(r#""{id}":{{"CheckID":"{id}",{check}}}"#)
        };
        let body = [
            check("service:a", "ttl", "critical"),
            check("x", "tcp", "critical"),
            check("_service_maintenance:a", "maintenance", "critical"),
        ];
        let body = format!("{{{}}}", body.join(","));
        let checks = Checks::parse(body.as_bytes(), "a").unwrap();
        let stale = |kind, foreign| checks.stale("service:a", kind, foreign).collect::<Vec<_>>();
        assert_eq!(stale("ttl", false), [""; 0]);
        assert_eq!(stale("ttl", true), ["x"]);
        assert_eq!(stale("tcp", false), ["service:a"]);
        assert_eq!(Checks::parse(body.as_bytes(), "b").unwrap().0.len(), 0);
    }
}
