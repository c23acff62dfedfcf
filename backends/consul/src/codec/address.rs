//! The address of an instance, in the shapes that registries of Consul have.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use fleetward_core::{Address, Error};
use serde::Deserialize;

/// An entry of `TaggedAddresses`; kratos writes a whole URL into its address.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Tagged {
    address: String,
    port: i64,
}

/// What is known of where an instance listens.
pub(super) struct Place<'a> {
    pub(super) address: &'a str,
    pub(super) port: i64,
    pub(super) node_address: &'a str,
    pub(super) tagged: &'a BTreeMap<String, Option<Tagged>>,
}

impl Place<'_> {
    /// The address under the name that was asked for; else the service's own, over the node's;
    /// else, where a service has no port of its own, one of gRPC or HTTP that kratos wrote.
    pub(super) fn address(&self, wanted: Option<&str>) -> Result<Address, Error> {
        if let Some(tagged) = wanted.and_then(|name| self.tagged(name)) {
            return join(&tagged.address, tagged.port);
        }
        if self.port == 0 && !self.address.contains("://") {
            let spare = ["grpc", "http"].into_iter().find_map(|name| self.tagged(name));
            if let Some(tagged) = spare {
                return join(&tagged.address, tagged.port);
            }
        }
        let own = self.address.trim();
        join(if own.is_empty() { self.node_address } else { own }, self.port)
    }

    fn tagged(&self, name: &str) -> Option<&Tagged> {
        self.tagged.get(name)?.as_ref().filter(|tagged| !tagged.address.is_empty())
    }
}

/// `host`, `host:port` or `scheme://host[:port][/…]`, with a port that counts where the text has
/// none.
fn join(text: &str, port: i64) -> Result<Address, Error> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => {
            (format!("{scheme}://"), rest.split(['/', '?']).next().unwrap_or(""))
        }
        None => (String::new(), text),
    };
    if rest.parse::<Ipv6Addr>().is_ok() {
        return format!("{scheme}[{rest}]:{port}").parse();
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    match has_port {
        true => format!("{scheme}{rest}").parse(),
        false => format!("{scheme}{rest}:{port}").parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_is_read() {
        for (text, port, expected) in [
            ("10.0.0.1", 80, "10.0.0.1:80"),
            ("host-1", 80, "host-1:80"),
            ("::1", 80, "[::1]:80"),
            ("[::1]", 80, "[::1]:80"),
            ("10.0.0.1:81", 80, "10.0.0.1:81"),
            ("grpc://10.0.0.1:9000", 9000, "grpc://10.0.0.1:9000"),
            ("grpc://10.0.0.1:9000?isSecure=false", 9000, "grpc://10.0.0.1:9000"),
            ("http://10.0.0.1", 80, "http://10.0.0.1:80"),
            ("http://[::1]:81/x", 80, "http://[::1]:81"),
        ] {
            assert_eq!(join(text, port).unwrap().to_string(), expected, "{text}");
        }
        for (text, port) in [
            ("10.0.0.1", 0),
            ("10.0.0.1", -1),
            ("10.0.0.1", 65_536),
            ("", 80),
            ("a/b", 80),
            ("a@b", 80),
            ("0.0.0.0", 80),
        ] {
            assert!(join(text, port).is_err(), "{text}:{port}");
        }
    }
}
