//! What can be wrong with a configuration.

use std::time::Duration;

use fleetward_backend_common::clear_text;
use fleetward_core::Error;
use fleetward_core::registry::redact;

use super::endpoint::parse_endpoint;
use super::{EtcdCodec, EtcdConfig};

impl EtcdConfig {
    /// Checks everything that can be checked without files and network.
    /// [`connect`](crate::EtcdRegistry::connect) does it too.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput), with what to change.
    pub fn check(&self) -> Result<(), Error> {
        if self.endpoints.is_empty() {
            return Err(Error::invalid_input(
                "no etcd endpoint is given; give at least one host:port, as in etcd://127.0.0.1:2379",
            ));
        }
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            parse_endpoint(endpoint).map_err(|error| error.with_context("no.", place + 1))?;
        }
        self.tls.check(self.is_tls(), "endpoint")?;
        self.check_credentials()?;
        check_path("prefix", &self.prefix)?;
        check_path("schema", self.schema())?;
        if self.schema().is_empty() {
            return Err(Error::invalid_input("the schema is empty; leave it out for the default"));
        }
        let given = self.schema.as_deref().filter(|_| !self.prefix.is_empty());
        if self.codec == EtcdCodec::Plain && given.is_some_and(|given| given != self.prefix) {
            return Err(Error::invalid_input(
                "schema and prefix (or the URL's path) differ; the plain codec has one of them",
            ));
        }
        self.check_numbers()
    }

    fn check_credentials(&self) -> Result<(), Error> {
        let Some(user) = &self.user else { return Ok(()) };
        if user.name.is_empty() {
            return Err(Error::invalid_input("the user's name is empty"));
        }
        match self.exposed_endpoint() {
            Some(endpoint) if !self.dangerous_plaintext_credentials => {
                Err(clear_text::refuse("the password", "etcds").with_context("endpoint", endpoint))
            }
            _ => Ok(()),
        }
    }

    /// An endpoint that gets the password in the clear, over a network.
    pub(crate) fn exposed_endpoint(&self) -> Option<&str> {
        if self.user.is_none() || self.is_tls() {
            return None;
        }
        let remote = |endpoint: &&String| {
            parse_endpoint(endpoint).is_ok_and(|(_, address)| clear_text::is_remote(address.host()))
        };
        self.endpoints.iter().find(remote).map(String::as_str)
    }

    fn check_numbers(&self) -> Result<(), Error> {
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(Error::invalid_input("a timeout is longer than 0"));
        }
        if self.keepalive < MIN_KEEPALIVE {
            return Err(Error::invalid_input(
                "keepalive is at least 5s, for etcd closes connections that are probed more often",
            ));
        }
        if self.keepalive_timeout.is_zero() {
            return Err(Error::invalid_input("the keepalive timeout is longer than 0"));
        }
        if self.page_size == 0 {
            return Err(Error::invalid_input("page_size is at least 1"));
        }
        Ok(())
    }
}

/// etcd's own minimum (`--grpc-keepalive-min-time`).
const MIN_KEEPALIVE: Duration = Duration::from_secs(5);

/// A part of a key: no empty, `.` or `..` segment inside, and nothing that a log would trip over.
fn check_path(name: &'static str, path: &str) -> Result<(), Error> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let bad_segment = |segment: &str| matches!(segment, "" | "." | "..");
    let bad = path.chars().any(char::is_control)
        || path.len() > 512
        || (!path.is_empty() && inner.split('/').any(bad_segment));
    if bad {
        return Err(Error::invalid_input(format!(
            "the {name} has an empty, '.' or '..' segment, a control character or more than 512 bytes",
        ))
        .with_context(name, redact::length(path)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(config: EtcdConfig) -> String {
        config.check().expect_err("it is wrong").to_string()
    }

    #[test]
    fn says_what_is_wrong() {
        let good = || EtcdConfig::new(["127.0.0.1:2379"]);
        assert!(good().check().is_ok());
        assert!(message(EtcdConfig::new([""; 0])).contains("no etcd endpoint"));
        assert!(message(EtcdConfig::new(["ftp://h:1"])).contains("http://"));
        assert!(message(good().with_page_size(0)).contains("page_size"));
        assert!(message(good().with_prefix("a//b")).contains("prefix"));
        assert!(message(good().with_schema("")).contains("schema"));
        assert!(message(good().with_request_timeout(Duration::ZERO)).contains("timeout"));
        let second = Duration::from_secs(1);
        assert!(message(good().with_keepalive(second, second)).contains("at least 5s"));
        let plain = good().with_codec(EtcdCodec::Plain).with_prefix("a");
        assert_eq!(plain.schema(), "a");
        assert!(message(plain.with_schema("b")).contains("differ"));
    }

    #[test]
    fn the_port_is_etcds_own_unless_given() {
        let urls = |endpoint| EtcdConfig::new([endpoint]).urls();
        for (endpoint, url) in [
            ("localhost", "http://localhost:2379"),
            ("https://10.0.0.1", "https://10.0.0.1:2379"),
            ("[::1]", "http://[::1]:2379"),
            ("[::1]:79", "http://[::1]:79"),
        ] {
            assert_eq!(urls(endpoint).unwrap(), [url]);
        }
        for bad in ["", "localhost:", "::1", "http:", "http://", "h/", "u:p@h"] {
            assert!(urls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_needs_tls_or_loopback_or_a_dangerous_word() {
        let at = |endpoint: &str| EtcdConfig::new([endpoint]).with_user("root", "canary");
        for fine in ["127.0.0.1:2379", "[::1]:2379", "localhost:2379", "https://10.0.0.1:2379"] {
            assert!(at(fine).check().is_ok(), "{fine}");
            assert!(at(fine).exposed_endpoint().is_none());
        }
        let plaintext = at("10.0.0.1:2379");
        assert!(message(plaintext.clone()).contains("dangerous_plaintext_credentials=true"));
        assert!(message(at("http://10.0.0.1:2379")).contains("without TLS"));
        assert!(plaintext.clone().with_tls(true).check().is_ok());
        let allowed = plaintext.with_dangerous_plaintext_credentials(true);
        assert!(allowed.check().is_ok() && allowed.exposed_endpoint().is_some());
    }

    #[test]
    fn tls_is_never_switched_off_by_accident() {
        let good = || EtcdConfig::new(["https://h:1", "h:2"]);
        assert_eq!(good().urls().unwrap(), ["https://h:1", "https://h:2"]);
        assert!(EtcdConfig::new(["h:1"]).with_ca_file("ca.pem").is_tls());
        assert!(EtcdConfig::new(["h:1"]).with_domain("etcd.internal").is_tls());
        assert!(message(good().with_tls(false)).contains("tls"));
        assert!(!EtcdConfig::new(["h:1"]).with_tls(false).is_tls());
    }

    #[test]
    fn no_secret_is_printed() {
        let config = EtcdConfig::new(["root:canary@h:1"]).with_user("root", "canary");
        assert!(!message(config).contains("canary"));
        let config = EtcdConfig::new(["h:1"]).with_user("root", "canary");
        assert!(!format!("{config:?} {:?}", config.check()).contains("canary"));
        for endpoint in ["root:canary@h:1", "root:canary", "http://canary:x", "canary;x:1"] {
            let config = EtcdConfig::new(["h:1", endpoint]).with_prefix("a?canary");
            let shown = format!("{config:?} {:?}", config.check());
            assert!(!shown.contains("canary") && shown.contains("h:1"), "{shown}");
        }
    }
}
