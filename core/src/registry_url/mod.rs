//! The URL that chooses a registry: `etcd://user:password@h1:2379,h2:2379/prefix/service?ca=…`.
//!
//! A general URL parser cannot be used for the authority, for registries are named by several
//! `host:port` at once and lists of addresses; the parts (percent encoding, query) come from the
//! crates that such parsers use.

mod options;

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::{Error, Secret, ServiceName};
pub use options::Options;

/// A registry URL in its parts. `Debug` and `Display` show neither password nor option values.
///
/// ```
/// use fleetward_core::RegistryUrl;
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
}

impl RegistryUrl {
    /// Takes a URL apart. `scheme:rest` without `//` has no hosts, only a path.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput); the message never holds the URL, which
    /// may hold a password.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text
            .split_once(':')
            .filter(|(scheme, _)| is_scheme(scheme))
            .ok_or_else(|| Error::invalid_input("a registry URL starts with scheme:, as in memory: or etcd://127.0.0.1:2379/greeter"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('#') || rest.contains('#') {
            return Err(Error::invalid_input(
                "a registry URL has no fragment (#); write %23 for the character",
            ));
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest.strip_prefix('/').unwrap_or(rest)),
        };
        // Else a password with an unescaped '/' would be split, and printed as hosts and path.
        if path.contains('@') {
            return Err(Error::invalid_input(
                "'@' belongs in front of the hosts; write '/' in a user's name or password as %2F, and '@' as %40",
            ));
        }
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
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
            options: Options::parse(query),
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
}

impl FromStr for RegistryUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if !self.hosts.is_empty() || self.username.is_some() {
            f.write_str("//")?;
            if let Some(username) = &self.username {
                let password = if self.password.is_some() { ":***" } else { "" };
                write!(f, "{}{password}@", username.escape_debug())?;
            }
            write!(f, "{}/", self.hosts.join(",").escape_debug())?;
        }
        write!(f, "{}", self.path.escape_debug())?;
        for (i, name) in self.options.names().enumerate() {
            write!(f, "{}{}=…", if i == 0 { '?' } else { '&' }, name.escape_debug())?;
        }
        Ok(())
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
        for bad in
            ["", "127.0.0.1:2379", "://x", "etcd", "etcd://h/#x", "etcd://h/%ff", "etcd://u:p/w@h"]
        {
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
    fn no_secret_is_printed() {
        let text = "etcd://root:canary@h:1/s?token=canary&ca=canary";
        let url = RegistryUrl::parse(text).unwrap();
        let printed = format!("{url} {url:?}");
        assert!(!printed.contains("canary"), "{printed}");
        let mut url = url;
        let error = url.options().take_parsed::<u32>("token").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert!(!format!("{:?}", url.options().finish()).contains("canary"));
    }
}
