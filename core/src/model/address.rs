//! Where an instance listens: a validated host and port.
//!
//! Addresses come out of a registry, so they are hostile input. Nothing but a host, a port that
//! is not 0 and an optional scheme passes; addresses that can never name one instance
//! (unspecified, multicast, broadcast) or that reach the machine's own metadata service
//! (link-local) are refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::registry::redact;
use crate::{Error, ErrorKind};

/// The longest address that is read, in bytes.
const MAX_LEN: usize = 320;

/// The host part of an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A name that the connector resolves.
    Name(Box<str>),
}

/// Where an instance listens: `host:port`, `[v6]:port`, either with `scheme://` in front.
///
/// ```
/// use fleetward_core::Address;
/// let address: Address = "http://[::1]:8080".parse()?;
/// assert_eq!(address.port(), 8080);
/// assert_eq!(address.scheme(), Some("http"));
/// assert_eq!(address.to_string(), "http://[::1]:8080");
/// assert!("10.0.0.1:0".parse::<Address>().is_err());
/// assert!("http://10.0.0.1:80/path".parse::<Address>().is_err());
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    scheme: Option<Box<str>>,
    host: Host,
    port: NonZeroU16,
}

impl Address {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// The scheme without `://`, where the address has one.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// `host:port` without the scheme, as an HTTP authority.
    pub fn authority(&self) -> String {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port.get()).to_string(),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| {
            Error::new(ErrorKind::InvalidInput, why).with_context("address", redact::address(text))
        })
    }
}

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<SocketAddr> for Address {
    type Error = Error;

    fn try_from(socket: SocketAddr) -> Result<Self, Error> {
        socket.to_string().parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    if text.len() > MAX_LEN {
        return Err("the address is too long");
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(parse_scheme(scheme)?), rest),
        None => (None, text),
    };
    if rest.contains(['/', '?', '#', '@']) {
        return Err("an address is host:port, without user, path or query");
    }
    let (host, port) = rest.rsplit_once(':').ok_or("the port is missing; write host:port")?;
    let host = match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']').ok_or("the bracket is not closed")?;
            Host::Ip(IpAddr::V6(inner.parse().map_err(|_| "not an IPv6 address")?))
        }
        None if host.contains(':') => return Err("an IPv6 address stands in brackets: [::1]:80"),
        None => match host.parse::<IpAddr>() {
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Name(parse_name(host)?.into()),
        },
    };
    if let Host::Ip(ip) = &host {
        refuse_special(ip.to_canonical())?;
    }
    // `u16::from_str` takes "+80"; a registry's reader elsewhere may not.
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is not a number from 1 to 65535");
    }
    let port = port.parse().map_err(|_| "the port is not a number from 1 to 65535")?;
    Ok(Address { scheme, host, port })
}

fn parse_scheme(scheme: &str) -> Result<Box<str>, &'static str> {
    let ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.len() <= 32
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if ok { Ok(scheme.into()) } else { Err("the scheme is not a valid one") }
}

/// RFC 1123 labels, with `_` as container platforms use it. A name that ends in a number is
/// refused: resolvers read `127.1` or `0x7f.1` as an address, past the checks above.
fn parse_name(name: &str) -> Result<&str, &'static str> {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.is_empty() {
        return Err("the host is missing; write host:port");
    }
    if name.len() > 253 || !name.split('.').all(label_ok) {
        return Err("the host is neither an IP address nor a host name");
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err("a host name cannot end in a number");
    }
    Ok(name)
}

fn refuse_special(ip: IpAddr) -> Result<(), &'static str> {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_unspecified() {
        return Err(
            "the unspecified address names no instance; register the one that clients reach",
        );
    }
    if ip.is_multicast() || link_local {
        return Err("multicast, broadcast and link-local addresses are refused");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_can_be_dialled_and_prints_it_back() {
        for text in [
            "127.0.0.1:3000",
            "[::1]:443",
            "localhost:80",
            "a-b.c_d.example:65535",
            "grpc://10.0.0.1:9000",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn refuses_hostile_input() {
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "host:80/",
            "user@host:80",
            "http://host:80/path",
            "host:80\r\nX: y",
            "::1:80",
            "[::1:80",
            "[10.0.0.1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "127.1:80",
            "0x7f.0x1:80",
            "a..b:80",
            "-a:80",
            "höst:80",
            "://host:80",
            "1http://host:80",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was accepted");
        }
        assert!("h".repeat(400).parse::<Address>().is_err());
    }
}
