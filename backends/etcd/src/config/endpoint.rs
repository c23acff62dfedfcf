//! An endpoint as it is given: `host:port`, perhaps with a scheme.

use fleetward_core::registry::redact;
use fleetward_core::{Address, Error};

/// Where etcd listens for clients unless told otherwise.
const DEFAULT_PORT: &str = ":2379";

/// Whether the endpoint asks for TLS, and its address.
pub(super) fn parse_endpoint(endpoint: &str) -> Result<(bool, Address), Error> {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let port = if has_port { "" } else { DEFAULT_PORT };
    let address: Address = format!("{endpoint}{port}").parse().map_err(|error: Error| {
        Error::invalid_input(format!("not an etcd endpoint: {}", error.message()))
            .with_context("endpoint", redact::address(endpoint))
    })?;
    match address.scheme() {
        None | Some("http") => Ok((false, address)),
        Some("https") => Ok((true, address)),
        Some(_) => Err(Error::invalid_input(
            "an etcd endpoint is host:port, with http:// or https:// in front if need be",
        )
        .with_context("endpoint", address.authority())),
    }
}

/// What `Debug` shows of an endpoint: a user and a password may stand in one that is wrong.
pub(super) fn shown(endpoint: &str) -> String {
    match parse_endpoint(endpoint) {
        Ok((_, address)) => address.to_string(),
        Err(_) => redact::length(endpoint),
    }
}
