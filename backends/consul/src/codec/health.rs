//! How well an instance is, all its checks taken together.

use serde::Deserialize;

/// From the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Maintenance,
    Critical,
    Warning,
    Passing,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check {
    #[serde(default, rename = "CheckID")]
    check_id: String,
    #[serde(default)]
    status: String,
}

impl Health {
    /// The worst check decides; without any the instance is well, as in Consul itself.
    pub(super) fn of(checks: &[Check]) -> Self {
        checks.iter().map(Self::of_one).min().unwrap_or(Self::Passing)
    }

    fn of_one(check: &Check) -> Self {
        let id = check.check_id.as_str();
        if id == "_node_maintenance" || id.starts_with("_service_maintenance:") {
            return Self::Maintenance;
        }
        match check.status.as_str() {
            "passing" => Self::Passing,
            "warning" => Self::Warning,
            // An unknown state is not one to send calls to.
            _ => Self::Critical,
        }
    }
}

impl From<Health> for fleetward_core::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Maintenance => Self::Maintenance,
            Health::Critical => Self::Unhealthy,
            Health::Warning => Self::Degraded,
            Health::Passing => Self::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(checks: &[(&str, &str)]) -> Health {
        let check = |(id, status): &(&str, &str)| Check {
            check_id: (*id).to_owned(),
            status: (*status).to_owned(),
        };
        Health::of(&checks.iter().map(check).collect::<Vec<_>>())
    }

    #[test]
    fn pitfall_maintenance_over_critical_over_warning_over_passing() {
        assert_eq!(of(&[]), Health::Passing);
        assert_eq!(of(&[("a", "passing"), ("b", "warning")]), Health::Warning);
        assert_eq!(of(&[("a", "warning"), ("b", "critical")]), Health::Critical);
        assert_eq!(
            of(&[("a", "critical"), ("_node_maintenance", "critical")]),
            Health::Maintenance
        );
        assert_eq!(of(&[("_service_maintenance:a", "critical")]), Health::Maintenance);
        assert_eq!(of(&[("a", "on fire")]), Health::Critical);
    }
}
