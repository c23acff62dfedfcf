//! Who finds out that a registered instance is well.

use std::fmt;
use std::time::Duration;

use fleetward_core::Error;
use fleetward_core::registry::redact;

/// Who finds out that a registered instance is well.
///
/// With a check that Consul runs, an instance whose program dies is out of sight after the next
/// run of the check; with heartbeats after the time to live.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsulCheck {
    /// The instance says so itself, three times in its time to live (a TTL check).
    #[default]
    Ttl,
    /// The agent connects to the instance's address.
    Tcp {
        /// The time from one check to the next.
        interval: Duration,
        /// How long one may take.
        timeout: Duration,
    },
    /// The agent gets this path from the instance: 2xx passes, 429 warns, all else is critical.
    Http {
        /// The path, as in `/health`.
        path: String,
        /// Whether to use `https`.
        tls: bool,
        /// The time from one check to the next.
        interval: Duration,
        /// How long one may take.
        timeout: Duration,
    },
    /// The agent asks gRPC's health service at the instance.
    Grpc {
        /// The service to ask for; empty for the whole server.
        service: String,
        /// Whether to use TLS.
        tls: bool,
        /// The time from one check to the next.
        interval: Duration,
        /// How long one may take.
        timeout: Duration,
    },
}

impl ConsulCheck {
    /// What Consul calls a check of this kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Tcp { .. } => "tcp",
            Self::Http { .. } => "http",
            Self::Grpc { .. } => "grpc",
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let (text, interval, timeout) = match self {
            Self::Ttl => return Ok(()),
            Self::Tcp { interval, timeout } => ("", interval, timeout),
            Self::Http { path, interval, timeout, .. } => {
                if !path.starts_with('/') {
                    return Err(Error::invalid_input("the path of an HTTP check starts with /"));
                }
                (path.as_str(), interval, timeout)
            }
            Self::Grpc { service, interval, timeout, .. } => (service.as_str(), interval, timeout),
        };
        if text.len() > 1024 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::invalid_input(
                "the path or service of a check has a blank or more than 1024 bytes",
            ));
        }
        if *interval < Duration::from_secs(1) || timeout.is_zero() {
            return Err(Error::invalid_input(
                "the interval of a check is at least 1s, its timeout longer than 0",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for ConsulCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, what, tls, interval, timeout) = match self {
            Self::Ttl => return f.write_str("Ttl"),
            Self::Tcp { interval, timeout } => ("Tcp", None, None, interval, timeout),
            // A check's path may hold a token, in its query or as a segment.
            Self::Http { path, tls, interval, timeout } => {
                ("Http", Some(("path", redact::length(path))), Some(tls), interval, timeout)
            }
            Self::Grpc { service, tls, interval, timeout } => {
                ("Grpc", Some(("service", redact::name(service))), Some(tls), interval, timeout)
            }
        };
        let mut shown = f.debug_struct(name);
        if let Some((field, text)) = what {
            shown.field(field, &text);
        }
        if let Some(tls) = tls {
            shown.field("tls", tls);
        }
        shown.field("interval", interval).field("timeout", timeout).finish()
    }
}
