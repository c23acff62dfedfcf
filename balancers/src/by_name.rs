//! The choice of a balancer by its name, for URLs and configuration.

use std::sync::Arc;

use fleetward_core::{Balancer, Error};

use crate::{Random, RoundRobin};

/// Every name that [`by_name`] knows.
pub const NAMES: &[&str] = &["random", "round_robin"];

/// The balancer of that name, with its defaults.
///
/// ```
/// assert!(fleetward_balancers::by_name("round_robin").is_ok());
/// let error = fleetward_balancers::by_name("best").unwrap_err();
/// assert!(error.to_string().contains("round_robin"));
/// ```
///
/// # Errors
/// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for an unknown name; the message
/// lists the known ones.
pub fn by_name(name: &str) -> Result<Arc<dyn Balancer>, Error> {
    match name {
        "random" => Ok(Arc::new(Random::new())),
        "round_robin" => Ok(Arc::new(RoundRobin::new())),
        _ => Err(Error::invalid_input(format!(
            "unknown balancer; known ones are: {}",
            NAMES.join(", ")
        ))
        .with_context("balancer", name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_makes_a_balancer() {
        for name in NAMES {
            assert!(by_name(name).is_ok(), "{name}");
        }
    }
}
