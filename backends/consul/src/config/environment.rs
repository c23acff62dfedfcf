//! The variables that Consul's own tools take, for a URL that names no agent.

use std::path::PathBuf;

use fleetward_core::Error;
use fleetward_core::registry::Secret;

use super::credentials::{Kept, User};
use super::variables::Environment;
use super::{ConsulConfig, Pem};

impl ConsulConfig {
    /// Takes the agent and the way to it from the environment, where nothing else was given.
    pub(super) fn or_of(mut self, environment: &Environment<'_>) -> Result<Self, Error> {
        if self.agents.is_empty() {
            let agent = environment.get("CONSUL_HTTP_ADDR");
            self.agents = vec![agent.unwrap_or_else(|| "127.0.0.1".to_owned())];
        }
        if self.tls.enabled.is_none() {
            self.tls.enabled = environment.flag("CONSUL_HTTP_SSL")?.filter(|on| *on);
        }
        if environment.flag("CONSUL_HTTP_SSL_VERIFY")? == Some(false) {
            return Err(Error::invalid_input(
                "certificates are always verified; name the agent's authority (ca=…, CONSUL_CACERT) instead",
            )
            .with_context("variable", "CONSUL_HTTP_SSL_VERIFY"));
        }
        let path = |name| environment.get(name).map(PathBuf::from);
        // Consul's tools take these only where TLS is on; here they would switch it on.
        if self.is_tls() {
            self.tls.ca = self.tls.ca.or_else(|| path("CONSUL_CACERT").map(Pem::File));
            if self.tls.certificate.is_none() && self.tls.key.is_none() {
                self.tls.certificate = path("CONSUL_CLIENT_CERT");
                self.tls.key = path("CONSUL_CLIENT_KEY");
            }
            let domain = || environment.get("CONSUL_TLS_SERVER_NAME");
            self.tls.domain = self.tls.domain.or_else(domain);
        }
        if let (None, Some(auth)) = (&self.credentials.user, environment.get("CONSUL_HTTP_AUTH")) {
            let auth = Secret::new(auth);
            let (name, password) = auth.expose().split_once(':').ok_or_else(|| {
                Error::invalid_input("the variable is a user's name and password: name:password")
                    .with_context("variable", "CONSUL_HTTP_AUTH")
            })?;
            let password = Kept::Text(Secret::new(password));
            let password = Kept::Variable("CONSUL_HTTP_AUTH", Box::new(password));
            self.credentials.user = Some(User { name: name.to_owned(), password });
        }
        let query = &mut self.query;
        query.namespace = query.namespace.take().or_else(|| environment.get("CONSUL_NAMESPACE"));
        query.partition = query.partition.take().or_else(|| environment.get("CONSUL_PARTITION"));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use fleetward_core::registry::RegistryUrl;

    use super::*;

    fn config(url: &str, variables: &[(&str, &str)]) -> Result<ConsulConfig, Error> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let config = ConsulConfig::from_url_and(RegistryUrl::parse(url)?, &Environment(&get))?;
        config.check().map(|()| config)
    }

    fn agents(url: &str, variables: &[(&str, &str)]) -> String {
        let urls = config(url, variables).unwrap().urls().unwrap();
        urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_url_without_an_agent_takes_that_of_the_environment() {
        let address = |text| [("CONSUL_HTTP_ADDR", text)];
        assert_eq!(agents("consul:", &[]), "http://127.0.0.1:8500");
        assert_eq!(agents("consuls:", &[]), "https://127.0.0.1:8501");
        assert_eq!(agents("consul:", &address("")), "http://127.0.0.1:8500");
        assert_eq!(agents("consul:", &address("h:1")), "http://h:1");
        assert_eq!(agents("consul:", &address("https://h:1/base")), "https://h:1/base");
        assert_eq!(agents("consul:", &address("unix:///run/c.sock")), "unix:///run/c.sock");
        assert_eq!(agents("consul://x:2", &address("h:1")), "http://x:2");
        assert_eq!(agents("consul://x", &address("h:1")), "http://x:8500");
        let tls = [("CONSUL_HTTP_ADDR", "h:1"), ("CONSUL_HTTP_SSL", "true")];
        assert_eq!(agents("consul:", &tls), "https://h:1");
        assert_eq!(agents("consul://x:2", &tls), "http://x:2");
    }

    #[test]
    fn what_the_url_says_wins_and_no_secret_is_printed() {
        let variables = [
            ("CONSUL_HTTP_AUTH", "u:canary"),
            ("CONSUL_HTTP_TOKEN", "canary"),
            ("CONSUL_CACERT", "env-ca.pem"),
            ("CONSUL_CLIENT_CERT", "env-c.pem"),
            ("CONSUL_CLIENT_KEY", "env-k.pem"),
            ("CONSUL_TLS_SERVER_NAME", "env-name"),
            ("CONSUL_NAMESPACE", "env-ns"),
        ];
        let of_environment = config("consuls:", &variables).unwrap();
        assert_eq!(of_environment.tls().domain(), Some("env-name"));
        assert!(
            matches!(&of_environment.tls.ca, Some(Pem::File(path)) if path.ends_with("env-ca.pem"))
        );
        assert!(of_environment.credentials.user.is_some());
        assert!(!format!("{of_environment:?}").contains("canary"));
        let given = config("consuls://a:b@?ca=x.pem&domain=n&namespace=m", &variables).unwrap();
        assert_eq!(given.tls().domain(), Some("n"));
        assert_eq!(given.credentials.user.as_ref().unwrap().name, "a");
        assert_eq!(given.query.namespace.as_deref(), Some("m"));
        assert!(matches!(&given.tls.ca, Some(Pem::File(path)) if path.ends_with("x.pem")));
        let elsewhere = config("consuls://h:1", &variables).unwrap();
        assert!(elsewhere.credentials.user.is_none() && elsewhere.tls.ca.is_none());
        for (name, text) in [
            ("CONSUL_HTTP_AUTH", "canary"),
            ("CONSUL_HTTP_SSL", "canary"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
        ] {
            let error = config("consul:", &[(name, text)]).unwrap_err();
            assert_eq!(error.context("variable"), Some(name));
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
}
