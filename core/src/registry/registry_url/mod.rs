//! The URL that chooses a registry: `etcd://user:password@h1:2379,h2:2379/prefix/service?ca=…`.
//!
//! A general URL parser cannot be used for the authority, for registries are named by several
//! `host:port` at once and lists of addresses; the parts (percent encoding, query) come from the
//! crates that such parsers use.

mod options;

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::registry::{Secret, redact};
use crate::{Address, Error, ServiceName};
pub use options::Options;

/// A registry URL in its parts. `Debug` and `Display` show neither password nor options; and
/// nothing but the scheme where a part is not what stands there in a good URL, for it may be a piece
/// of a password that was not escaped.
///
/// ```
/// use fleetward_core::registry::RegistryUrl;
/// let url = RegistryUrl::parse("etcd://root:s3cret@10.0.0.1:2379,10.0.0.2:2379/greeter")?;
/// assert_eq!((url.scheme(), url.hosts().len(), url.path()), ("etcd", 2, "greeter"));
/// assert_eq!(url.to_string(), "etcd://root:***@10.0.0.1:2379,10.0.0.2:2379/greeter");
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone)]
pub struct RegistryUrl {
    scheme: String,
    username: Option<String>,
    password: Option<Secret>,
    hosts: Vec<String>,
    path: String,
    options: Options,
    /// Whether the query is one, as far as can be seen; else a '?' may belong to a password.
    in_place: bool,
}

impl RegistryUrl {
    /// Takes a URL apart. `scheme:rest` without `//` has no hosts, only a path.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput); the message never holds a part of the URL,
    /// which may hold a password.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text
            .split_once(':')
            .filter(|(scheme, _)| is_scheme(scheme))
            .ok_or_else(|| Error::invalid_input("a registry URL starts with scheme:, as in memory: or etcd://127.0.0.1:2379/greeter"))?;
        if rest.contains('#') {
            return Err(Error::invalid_input(
                "a registry URL has no fragment (#); write %23 for the character",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest.strip_prefix('/').unwrap_or(rest)),
        };
        // Else a password with an unescaped '/' or '?' would be split, and taken for hosts, path and
        // options.
        if path.contains('@') || query.contains('@') {
            return Err(Error::invalid_input(
                "'@' belongs in front of the hosts; write it as %40 elsewhere, and in a user's name or password '/' as %2F and '?' as %3F",
            ));
        }
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if [hosts, path, query].iter().any(|part| part.contains(';')) {
            return Err(Error::invalid_input(
                "';' separates nothing in a registry URL: options are joined by '&'; write %3B for the character",
            ));
        }
        if user.is_some_and(begins_with_hosts) {
            return Err(Error::invalid_input(
                "a user stands once, in front of all hosts; write ',' in a user's name or password as %2C",
            ));
        }
        let (username, password) = match user.map(|user| user.split_once(':').ok_or(user)) {
            None => (None, None),
            Some(Ok((name, password))) => {
                (Some(decode(name)?), Some(Secret::new(decode(password)?)))
            }
            Some(Err(name)) => (Some(decode(name)?), None),
        };
        let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            username,
            password,
            hosts,
            path: decode(path.strip_suffix('/').unwrap_or(path))?,
            options: Options::parse_redacted(query),
            in_place: query.split('&').all(is_option),
        })
    }

    /// The scheme, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user's name.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The password.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Every `host:port` as it was written, not yet checked.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// What stands behind the hosts, without the slashes around it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes the service's name, the last segment, off the path. `None` for an empty path.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the segment is no valid name.
    pub fn take_service(&mut self) -> Result<Option<ServiceName>, Error> {
        if self.path.is_empty() {
            return Ok(None);
        }
        let (prefix, last) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let service = ServiceName::new(last)?;
        self.path = prefix.to_owned();
        Ok(Some(service))
    }

    /// The options of the query.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Whether all but the user and the options can be shown: it has hosts, and each part is what
    /// it would be in a good URL.
    fn can_be_shown(&self) -> bool {
        self.in_place
            && !self.hosts.is_empty()
            && self.hosts.iter().all(|host| is_host(host))
            && (self.path.is_empty() || redact::name(&self.path) == self.path)
    }
}

impl FromStr for RegistryUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.can_be_shown(), self.hosts.is_empty()) {
            (true, _) => {}
            (false, false) => return write!(f, "{}:…", self.scheme),
            // The scheme may be a user's name or a token as well.
            (false, true) => return f.write_str("(a URL without hosts, not shown)"),
        }
        write!(f, "{}://", self.scheme)?;
        match (&self.username, &self.password) {
            (None, _) => {}
            (Some(name), Some(password))
                if !password.expose().is_empty() && redact::name(name) == *name =>
            {
                write!(f, "{name}:***@")?;
            }
            // A token is often given as a user without a password.
            (Some(_), _) => f.write_str("***@")?,
        }
        write!(f, "{}/{}", self.hosts.join(","), self.path)?;
        f.write_str(if self.options.is_empty() { "" } else { "?…" })
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// `name=value`.
fn is_option(pair: &str) -> bool {
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    pair.is_empty() || pair.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// `host`, `host:port` or `[v6]:port`.
fn is_host(text: &str) -> bool {
    let address = |text: &str| text.parse::<Address>().is_ok_and(|a| a.scheme().is_none());
    address(text) || address(&format!("{text}:1"))
}

/// Whether what stands before the last '@' is not a user alone, as in `h1:1,user:password@h2:1`.
fn begins_with_hosts(user: &str) -> bool {
    let before_commas = user.rsplit_once(',').map(|(before, _)| before.split(','));
    let after_at = |part: &'_ str| part.rsplit('@').next().is_some_and(is_host);
    before_commas.is_some_and(|mut parts| parts.any(after_at))
}

fn decode(text: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Error::invalid_input("the URL is not UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn takes_urls_apart() {
        let url = RegistryUrl::parse("static:127.0.0.1:3000,127.0.0.1:3001").unwrap();
        assert_eq!((url.hosts().len(), url.path()), (0, "127.0.0.1:3000,127.0.0.1:3001"));
        let mut url =
            RegistryUrl::parse("ETCD://a%40b:p%3Aw:x@h1:1,h2:2/team%20x/greeter/").unwrap();
        assert_eq!(url.scheme(), "etcd");
        assert_eq!(url.username(), Some("a@b"));
        assert_eq!(url.password().map(Secret::expose), Some("p:w:x"));
        assert_eq!(url.hosts(), ["h1:1", "h2:2"]);
        assert_eq!(url.take_service().unwrap().unwrap().as_str(), "greeter");
        assert_eq!(url.path(), "team x");
        assert_eq!(RegistryUrl::parse("memory:greeter").unwrap().path(), "greeter");
        assert_eq!(RegistryUrl::parse("memory:///greeter").unwrap().path(), "greeter");
        for bad in [
            "",
            "127.0.0.1:2379",
            "://x",
            "etcd",
            "etcd://h/#x",
            "etcd://h/%ff",
            "etcd://u:p/w@h",
            "etcd://u:1?w@h/s",
            "etcd://u:1?wait=5s@h/s",
            "etcd://h/s;a=b",
            "etcd://h/s?a=b;c=d",
            "etcd://h1:1,u:p@h2:1/s",
            "etcd://u:p@h1,u:p@h2/s",
        ] {
            assert!(RegistryUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_are_typed_and_checked() {
        let mut url =
            RegistryUrl::parse("etcd://h:1/?tls&wait=1m%2030s&n=x&tag=a&tag=b&twice=1&twice=2")
                .unwrap();
        let options = url.options();
        assert_eq!(options.take_bool("tls").unwrap(), Some(true));
        assert_eq!(options.take_duration("wait").unwrap(), Some(Duration::from_secs(90)));
        assert!(options.take_parsed::<u32>("n").unwrap_err().to_string().contains("option=n"));
        assert_eq!(options.take_all("tag"), ["a", "b"]);
        assert!(options.take("twice").is_err());
        assert!(options.finish().is_ok());
    }

    #[test]
    fn a_good_url_is_shown_but_for_its_secrets() {
        for (text, shown) in [
            ("etcd://root:x@h:1,[::1]:2/team/s?codec=x", "etcd://root:***@h:1,[::1]:2/team/s?…"),
            ("consul://10.0.0.1:8500/s", "consul://10.0.0.1:8500/s"),
            ("etcd://h", "etcd://h/"),
            // A user without a password is often a token.
            ("etcd://x@h/s", "etcd://***@h/s"),
            ("etcd://x:@h/s", "etcd://***@h/s"),
            ("etcd://root:a,b@h/s", "etcd://root:***@h/s"),
            ("etcd://root:a;b@h/s", "etcd://root:***@h/s"),
            // Pieces of a user and a password.
            ("etcd://root:12?34/s", "etcd:…"),
            ("etcd://root:x/s", "etcd:…"),
            ("etcd:root:x", "(a URL without hosts, not shown)"),
        ] {
            let url = RegistryUrl::parse(text).unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let text = "etcd://root:canary@h:1/s?token=canary&ca=canary&canary";
        let mut url = RegistryUrl::parse(text).unwrap();
        let printed = format!("{url} {url:?}") + &format!("{:?}", url.options());
        assert!(!printed.contains("canary"), "{printed}");
        let errors = [
            url.options().take_parsed::<u32>("token").unwrap_err(),
            // Its own error quotes the unit.
            RegistryUrl::parse("a:?wait=5canary")
                .unwrap()
                .options()
                .take_duration("wait")
                .unwrap_err(),
            url.options().finish().unwrap_err(),
        ];
        for error in errors {
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        let error = url.options().finish().unwrap_err();
        assert_eq!(error.context("option"), Some("no. 2 of 3 (2 characters, not shown)"));
    }
}
