//! The configuration in a URL: `consul://h1:8500,h2:8500/service?passing=true&tag=a`.

use std::time::Duration;

use fleetward_core::Error;
use fleetward_core::registry::{Options, RegistryUrl, Secret, redact};

use super::variables::{self, Environment};
use super::{ConsulCheck, ConsulConfig, Kept, TlsConfig, User};

impl ConsulConfig {
    /// Takes agents and options from a URL whose scheme is `consul`, or `consuls` for TLS.
    ///
    /// Where the path names a service, take that off first with [`RegistryUrl::take_service`].
    ///
    /// ```
    /// use fleetward_consul::ConsulConfig;
    /// use fleetward_core::registry::RegistryUrl;
    /// let mut url = RegistryUrl::parse("consul://127.0.0.1:8500/greeter?tag=a&tag=b")?;
    /// let service = url.take_service()?;
    /// assert_eq!(service.unwrap().as_str(), "greeter");
    /// ConsulConfig::from_url(url)?.check()?;
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for another scheme, an unknown
    /// option or a value that cannot be read.
    pub fn from_url(url: RegistryUrl) -> Result<Self, Error> {
        Self::from_url_and(url, &Environment(&variables::process))
    }

    pub(super) fn from_url_and(
        mut url: RegistryUrl,
        environment: &Environment<'_>,
    ) -> Result<Self, Error> {
        let mut config = Self::new(url.hosts().iter().cloned()).with_base_path(url.path());
        let secure = match url.scheme() {
            "consul" => false,
            "consuls" => true,
            scheme => {
                return Err(Error::invalid_input("the scheme is not consul or consuls")
                    .with_context("scheme", redact::length(scheme)));
            }
        };
        let (name, password) = (url.username().map(str::to_owned), url.password().cloned());
        let options = url.options();
        if let Some(socket) = options.take_text("socket")? {
            config.agents.push(format!("unix://{socket}"));
        }
        config.take_security(options, secure)?;
        config.credentials.user = user(name, password, options)?;
        config.take_query(options)?;
        config.take_registration(options)?;
        set(&mut config.wait, options.take_duration("wait")?);
        set(&mut config.connect_timeout, options.take_duration("connect_timeout")?);
        set(&mut config.request_timeout, options.take_duration("request_timeout")?);
        set(&mut config.silence, options.take_duration("silence")?);
        options.finish()?;
        // The variables are about one agent, so they hold where the URL names none.
        if config.agents.is_empty() { config.or_of(environment) } else { Ok(config) }
    }

    fn take_security(&mut self, options: &mut Options, secure: bool) -> Result<(), Error> {
        self.tls = TlsConfig::take(options, secure.then_some(("consuls", "consul")))?;
        let allowed = options.take_bool("dangerous_plaintext_credentials")?;
        set(&mut self.dangerous_plaintext_credentials, allowed);
        let token = options.take("token")?.map(|text| Kept::Text(Secret::new(text)));
        let file = options.take("token_file")?.map(|path| Kept::File(path.into()));
        if token.is_some() && file.is_some() {
            return Err(Error::invalid_input("token and token_file are both given"));
        }
        self.credentials.token = token.or(file);
        Ok(())
    }

    fn take_query(&mut self, options: &mut Options) -> Result<(), Error> {
        set(&mut self.query.passing, options.take_bool("passing")?);
        self.query.tags = options.take_all("tag");
        self.query.filter = options.take("filter")?;
        self.query.datacenter = options.take("dc")?;
        if let Some(mode) = options.take("consistency")? {
            self.query.consistency = mode.parse()?;
        }
        self.query.near = options.take("near")?;
        self.query.namespace = options.take("namespace")?;
        self.query.partition = options.take("partition")?;
        self.query.tagged_address = options.take("tagged_address")?;
        Ok(())
    }

    fn take_registration(&mut self, options: &mut Options) -> Result<(), Error> {
        self.tags = options.take_all("register_tag");
        set(&mut self.deregister_after, options.take_duration("deregister_after")?);
        let kind = options.take("check")?;
        let kind = kind.as_deref().unwrap_or("ttl");
        let path = options.take("check_path")?.filter(|_| kind == "http");
        let service = options.take("check_service")?.filter(|_| kind == "grpc");
        let tls = options.take_bool("check_tls")?.unwrap_or(false);
        let interval = options.take_duration("check_interval")?.unwrap_or(CHECK_INTERVAL);
        let timeout = options.take_duration("check_timeout")?.unwrap_or(CHECK_TIMEOUT);
        self.check = match kind {
            "ttl" => ConsulCheck::Ttl,
            "tcp" => ConsulCheck::Tcp { interval, timeout },
            "http" => {
                let path = path.unwrap_or_else(|| "/".to_owned());
                ConsulCheck::Http { path, tls, interval, timeout }
            }
            "grpc" => {
                let service = service.unwrap_or_default();
                ConsulCheck::Grpc { service, tls, interval, timeout }
            }
            _ => {
                return Err(Error::invalid_input("a check is ttl, tcp, http or grpc")
                    .with_context("option", "check"));
            }
        };
        Ok(())
    }
}

/// For HTTP's basic authentication.
fn user(
    name: Option<String>,
    password: Option<Secret>,
    options: &mut Options,
) -> Result<Option<User>, Error> {
    let file = options.take_text("password_file")?.map(|path| Kept::File(path.into()));
    match (name, password, file) {
        (None, _, None) => Ok(None),
        (Some(name), Some(password), None) => {
            Ok(Some(User { name, password: Kept::Text(password) }))
        }
        (Some(name), None, Some(password)) => Ok(Some(User { name, password })),
        (Some(_), Some(_), Some(_)) => {
            Err(Error::invalid_input("a password and password_file are both given"))
        }
        (Some(_), None, None) => Err(Error::invalid_input(
            "a user needs a password: consul://user:password@host or password_file=…; a token is given by CONSUL_HTTP_TOKEN, token_file=… or token=…",
        )),
        (None, _, Some(_)) => {
            Err(Error::invalid_input("password_file needs a user: consul://user@host"))
        }
    }
}

fn set<T>(to: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *to = given;
    }
}

const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::Consistency;
    use super::*;

    fn config(url: &str) -> Result<ConsulConfig, Error> {
        let config = ConsulConfig::from_url(RegistryUrl::parse(url)?)?;
        config.check().map(|()| config)
    }

    #[test]
    fn every_option_is_read() {
        let config = config(
            "consuls://h1:8501,h2:8501?ca=ca.pem&cert=c.pem&key=k.pem&domain=d&token=canary&\
             connect_timeout=1s&request_timeout=2s&wait=5m&silence=3s&passing=false&tag=a&tag=b&\
             filter=x&dc=eu&consistency=stale&near=_agent&namespace=n&partition=p&\
             tagged_address=grpc&register_tag=t&deregister_after=2m&check=grpc&check_service=s&\
             check_tls=true&check_interval=9s&check_timeout=1s&tls=true",
        )
        .unwrap();
        assert!(config.is_tls());
        let urls: Vec<_> = config.urls().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["https://h1:8501", "https://h2:8501"]);
        assert_eq!(config.connect_timeout(), Duration::from_secs(1));
        assert_eq!(config.request_timeout(), Duration::from_secs(2));
        assert_eq!(
            (config.wait(), config.silence()),
            (Duration::from_secs(300), Duration::from_secs(3))
        );
        assert_eq!(config.query.consistency, Consistency::Stale);
        assert_eq!((config.query.passing, config.query.tags.len()), (false, 2));
        assert_eq!(config.query.tagged_address(), Some("grpc"));
        assert_eq!(config.deregister_after(), Duration::from_secs(120));
        let (interval, timeout) = (Duration::from_secs(9), Duration::from_secs(1));
        let check = ConsulCheck::Grpc { service: "s".into(), tls: true, interval, timeout };
        assert_eq!(
            (config.health_check(), config.register_tags()),
            (&check, &["t".to_owned()][..])
        );
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (url, part) in [
            ("etcd://h:1", "scheme"),
            ("consul://u@h:1", "CONSUL_HTTP_TOKEN"),
            ("consul://u:canary@h:1", "dangerous_plaintext_credentials=true"),
            ("consul://u:canary@h:1?password_file=x", "both given"),
            ("consul://h:1?password_file=x", "needs a user"),
            ("consul://h:1?consistency=canary", "default, stale, consistent"),
            ("consul://h:1?timeout=1s", "request_timeout"),
            ("consul://h:1?wait=11m", "10m"),
            ("consul://h:1?check=udp", "ttl, tcp, http or grpc"),
            ("consul://h:1?check=http&check_path=x", "starts with /"),
            ("consul://h:1?cert=c.pem", "both"),
            ("consuls://h:1?tls=false", "contradicts"),
            ("consul://10.0.0.1:1?token=canary-2", "dangerous_plaintext_credentials=true"),
            ("consul://h:1?token=canary-2&token_file=x", "both given"),
        ] {
            let error = format!("{:?}", config(url).expect_err(url));
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("canary-2") && !error.contains("u:canary"), "{error}");
        }
    }
}
