//! The configuration in a URL:
//! `etcd://user:password@h1:2379,h2:2379/prefix/service?codec=plain&schema=grpclb`.

use fleetward_core::Error;
use fleetward_core::registry::{RegistryUrl, redact};

use super::{EtcdConfig, TlsConfig};

impl EtcdConfig {
    /// Takes hosts, user, prefix and options from a URL whose scheme is `etcd`, or `etcds` for
    /// TLS.
    ///
    /// The path is the prefix; where its last segment is a service, take that off first with
    /// [`RegistryUrl::take_service`].
    ///
    /// ```
    /// use fleetward_core::registry::RegistryUrl;
    /// use fleetward_etcd::EtcdConfig;
    /// let mut url = RegistryUrl::parse("etcd://127.0.0.1:2379/prod/greeter?request_timeout=2s")?;
    /// let service = url.take_service()?;
    /// assert_eq!(service.unwrap().as_str(), "greeter");
    /// EtcdConfig::from_url(url)?.check()?;
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for another scheme, an unknown
    /// option or a value that cannot be read.
    pub fn from_url(mut url: RegistryUrl) -> Result<Self, Error> {
        let mut config = Self::new(url.hosts().iter().cloned()).with_prefix(url.path());
        let secure = match url.scheme() {
            "etcd" => false,
            "etcds" => true,
            scheme => {
                return Err(Error::invalid_input("the scheme is not etcd or etcds")
                    .with_context("scheme", redact::length(scheme)));
            }
        };
        let user = url.username().map(str::to_owned);
        let password = url.password().cloned();
        let options = url.options();
        config = match (user, password, options.take_text("password_file")?) {
            (None, _, None) => config,
            (None, _, Some(_)) => {
                return Err(Error::invalid_input(
                    "a password belongs to a user: write etcd://name@host/…?password_file=…",
                )
                .with_context("option", "password_file"));
            }
            (Some(_), Some(_), Some(_)) => {
                return Err(Error::invalid_input(
                    "the password stands in the URL or in a file, not in both",
                )
                .with_context("option", "password_file"));
            }
            (Some(name), None, Some(file)) => config.with_user_from_file(name, file),
            (Some(name), password, None) => {
                config.with_user(name, password.as_ref().map_or("", |password| password.expose()))
            }
        };
        if let Some(codec) = options.take("codec")? {
            config = config.with_codec(codec.parse()?);
        }
        if let Some(schema) = options.take("schema")? {
            config = config.with_schema(schema);
        }
        config.tls = TlsConfig::take(options, secure.then_some(("etcds", "etcd")))?;
        if let Some(allowed) = options.take_bool("dangerous_plaintext_credentials")? {
            config = config.with_dangerous_plaintext_credentials(allowed);
        }
        if let Some(timeout) = options.take_duration("connect_timeout")? {
            config = config.with_connect_timeout(timeout);
        }
        if let Some(timeout) = options.take_duration("request_timeout")? {
            config = config.with_request_timeout(timeout);
        }
        if let Some(interval) = options.take_duration("keepalive")? {
            config.keepalive = interval;
        }
        if let Some(timeout) = options.take_duration("keepalive_timeout")? {
            config.keepalive_timeout = timeout;
        }
        if let Some(keys) = options.take_parsed("page_size")? {
            config = config.with_page_size(keys);
        }
        if let Some(required) = options.take_bool("require_leader")? {
            config = config.with_require_leader(required);
        }
        options.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{EtcdCodec, Password};
    use super::*;

    fn config(url: &str) -> Result<EtcdConfig, Error> {
        let config = EtcdConfig::from_url(RegistryUrl::parse(url)?)?;
        config.check().map(|()| config)
    }

    #[test]
    fn every_option_is_read() {
        let config = config(
            "etcds://root:canary@h1:2379,h2:2379/team/prod?ca=ca.pem&cert=c.pem&key=k.pem&\
             domain=etcd.internal&connect_timeout=1s&request_timeout=2s&keepalive=6s&\
             keepalive_timeout=3s&page_size=7&require_leader=false&tls=true&codec=grpc",
        )
        .unwrap();
        assert!(config.is_tls());
        assert_eq!(config.urls().unwrap(), ["https://h1:2379", "https://h2:2379"]);
        assert_eq!(config.prefix(), "team/prod");
        assert_eq!(config.tls().domain(), Some("etcd.internal"));
        assert_eq!(config.connect_timeout(), Duration::from_secs(1));
        assert_eq!(config.request_timeout(), Duration::from_secs(2));
        assert_eq!(config.keepalive(), (Duration::from_secs(6), Duration::from_secs(3)));
        assert_eq!((config.page_size(), config.require_leader()), (7, false));
        assert!(
            matches!(&config.user().unwrap().password, Password::Text(text) if text.expose() == "canary")
        );
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn a_password_stands_in_a_file() {
        let config = config("etcd://root@127.0.0.1:1/?password_file=/run/secrets/etcd").unwrap();
        let user = config.user().unwrap();
        assert_eq!(user.name, "root");
        assert!(matches!(&user.password, Password::File(path) if path.ends_with("secrets/etcd")));
    }

    #[test]
    fn the_plain_codec_takes_its_schema_from_the_option_or_the_path() {
        for url in ["etcd://h:1?codec=plain&schema=grpclb", "etcd://h:1/grpclb?codec=plain"] {
            let config = config(url).unwrap();
            assert_eq!((config.codec(), config.schema()), (EtcdCodec::Plain, "grpclb"), "{url}");
        }
        assert_eq!(config("etcd://h:1").unwrap().schema(), "fleetward");
    }

    #[test]
    fn says_what_is_wrong() {
        for (url, part) in [
            ("etcd://", "no etcd endpoint"),
            ("consul://h:1", "scheme"),
            ("etcd://h:1?codec=json", "known codecs are: grpc, plain"),
            ("etcd://h:1?timeout=1s", "request_timeout"),
            ("etcd://h:1?keepalive=1s", "at least 5s"),
            ("etcd://h:1?cert=c.pem", "both"),
            ("etcds://h:1?tls=false", "contradicts"),
            ("etcd://h:1?tls=false&ca=x", "switched off"),
            ("etcd://u:canary@10.0.0.1:1", "dangerous_plaintext_credentials=true"),
            ("etcd://root:canary@127.0.0.1:1?password_file=x", "not in both"),
            ("etcd://127.0.0.1:1?password_file=x", "belongs to a user"),
            ("etcd://root@127.0.0.1:1?password_file=", "empty"),
            ("etcd://root@10.0.0.1:1?password_file=x", "dangerous_plaintext_credentials=true"),
            ("etcd://:canary@127.0.0.1:1", "name is empty"),
        ] {
            let error = format!("{:?}", config(url).expect_err(url));
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
