//! Where an agent is: `host:port`, a URL with a path, or a socket of this machine.

use std::path::PathBuf;

use fleetward_backend_common::clear_text;
use fleetward_core::registry::redact;
use fleetward_core::{Address, Error};

/// An agent, as every request needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentUrl {
    place: Place,
    tls: bool,
    /// Empty, or with a slash in front and none at the end.
    base: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Network(Address),
    Socket(PathBuf),
}

impl AgentUrl {
    /// Takes `host[:port]`, `http[s]://host[:port][/base]` or `unix:///path/of/a/socket`. Without
    /// a scheme the port is Consul's own, else that of the scheme.
    pub(super) fn parse(text: &str, tls: bool) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match cfg!(unix) && path.starts_with('/') {
                true => Ok(Self { place: Place::Socket(path.into()), tls, base: String::new() }),
                false => Err(Error::invalid_input("a socket is unix:///path/of/the/socket")
                    .with_context("agent", redact::address(text))),
            };
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let secure = match scheme {
            None => tls,
            Some("http") => tls,
            Some("https") => true,
            Some(_) => {
                return Err(Error::invalid_input(
                    "a Consul agent is host:port, http://, https:// or unix://",
                )
                .with_context("agent", redact::address(text)));
            }
        };
        let port = match (scheme, secure) {
            (Some("http"), _) => 80,
            (Some(_), _) => 443,
            (None, false) => PLAIN_PORT,
            (None, true) => TLS_PORT,
        };
        let (authority, base) = rest.split_once('/').unwrap_or((rest, ""));
        let wrong = |error: Error| {
            Error::invalid_input(format!("not a Consul agent: {}", error.message()))
                .with_context("agent", redact::address(text))
        };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let address = match has_port {
            true => authority.parse(),
            false => format!("{authority}:{port}").parse(),
        };
        let place = Place::Network(address.map_err(wrong)?);
        Self { place, tls: secure, base: String::new() }.with_base(base)
    }

    /// Puts a path in front of every request's.
    pub(super) fn with_base(mut self, base: &str) -> Result<Self, Error> {
        let base = base.trim_matches('/');
        if base.is_empty() {
            return Ok(self);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%:+=,;!$&'()*".contains(&b);
        if !base.bytes().all(plain) {
            return Err(Error::invalid_input(
                "the path in front of Consul's own has a character that a path may not have",
            )
            .with_context("agent", self.to_string()));
        }
        self.base = format!("{}/{base}", self.base);
        Ok(self)
    }

    /// Scheme and authority.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// For the header `Host`.
    pub(crate) fn authority(&self) -> String {
        match &self.place {
            Place::Network(address) => address.authority(),
            Place::Socket(_) => "localhost".to_owned(),
        }
    }

    /// What tells it from others; not to be shown.
    pub(crate) fn key(&self) -> String {
        match &self.place {
            Place::Network(_) => self.to_string(),
            Place::Socket(path) => format!("unix://{}{}", path.display(), self.base),
        }
    }

    /// What stands in front of the path of each request.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    #[cfg(unix)]
    pub(crate) fn socket(&self) -> Option<&PathBuf> {
        match &self.place {
            Place::Socket(path) => Some(path),
            Place::Network(_) => None,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether what is sent there leaves this machine.
    pub(super) fn is_remote(&self) -> bool {
        match &self.place {
            Place::Socket(_) => false,
            Place::Network(address) => clear_text::is_remote(address.host()),
        }
    }
}

impl std::fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Network(_) => write!(f, "{}{}", self.origin(), self.base),
            Place::Socket(path) => write!(f, "unix://{}{}", redact::file(path), self.base),
        }
    }
}

/// Consul's own ports.
const PLAIN_PORT: u16 = 8500;
const TLS_PORT: u16 = 8501;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        for (text, tls, expected) in [
            ("10.0.0.1", false, "http://10.0.0.1:8500"),
            ("10.0.0.1", true, "https://10.0.0.1:8501"),
            ("[::1]", false, "http://[::1]:8500"),
            ("[::1]:1", false, "http://[::1]:1"),
            ("http://h", false, "http://h:80"),
            ("https://h", false, "https://h:443"),
            ("https://h:8501/consul/", false, "https://h:8501/consul"),
            ("h:1/a/b", false, "http://h:1/a/b"),
            ("unix:///run/consul.sock", false, "unix:///run/consul.sock"),
        ] {
            assert_eq!(AgentUrl::parse(text, tls).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "ftp://h:1", "unix://x", "h:1/a b", "h:1/a?b", "u:canary@h:1", "h:0"] {
            let error = AgentUrl::parse(text, false).expect_err(text).to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
