//! Credentials that would be sent in clear text.

use fleetward_core::Error;
use fleetward_core::model::Host;

/// Whether what is sent to this host goes over a network: not on loopback, and not to `localhost`.
///
/// A backend that sends credentials without TLS asks this of each of its servers, and [refuses](refuse) the first one.
pub fn is_remote(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => !ip.to_canonical().is_loopback(),
        Host::Name(name) => !name.eq_ignore_ascii_case("localhost"),
    }
}

/// The error of a configuration by which `what` ("the password") would be sent over a network without TLS.
/// `scheme` is that of URLs with TLS.
pub fn refuse(what: &str, scheme: &str) -> Error {
    Error::invalid_input(format!(
        "{what} would be sent without TLS; switch TLS on ({scheme}://), or allow it with dangerous_plaintext_credentials=true"
    ))
}

#[cfg(test)]
mod tests {
    use fleetward_core::Address;

    use super::*;

    #[test]
    fn loopback_is_no_network() {
        for (address, expected) in [
            ("127.0.0.1:1", false),
            ("127.8.9.1:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("LocalHost:1", false),
            ("10.0.0.1:1", true),
            ("[2001:db8::1]:1", true),
            ("localhost.example:1", true),
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(is_remote(address.host()), expected, "{address}");
        }
    }
}
