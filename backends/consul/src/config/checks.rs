//! What can be found wrong with a configuration without files and network.

use std::time::Duration;

use fleetward_backend_common::clear_text;
use fleetward_core::Error;

use super::{ConsulConfig, MIN_DEREGISTER_AFTER};

impl ConsulConfig {
    /// Checks everything that can be checked without files and network.
    /// [`connect`](crate::ConsulRegistry::connect) does it too.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput), with what to change.
    pub fn check(&self) -> Result<(), Error> {
        if self.agents.is_empty() {
            return Err(Error::invalid_input(
                "no Consul agent is given; give at least one host:port, as in consul://127.0.0.1:8500",
            ));
        }
        self.urls()?;
        self.tls.check(self.is_tls(), "agent")?;
        self.credentials.check()?;
        if let Some(agent) = self.exposed_agent().filter(|_| !self.dangerous_plaintext_credentials)
        {
            let error = clear_text::refuse("the token or password", "consuls");
            return Err(error.with_context("agent", agent));
        }
        self.query.check()?;
        self.check.check()?;
        if self.tags.iter().any(|tag| tag.is_empty() || tag.chars().any(char::is_control)) {
            return Err(Error::invalid_input("a tag is empty or has a control character"));
        }
        self.check_times()
    }

    /// An agent that gets the token or the password in the clear, over a network.
    pub(crate) fn exposed_agent(&self) -> Option<String> {
        if self.credentials.is_empty() || self.is_tls() {
            return None;
        }
        let agents = self.urls().unwrap_or_default();
        agents.iter().find(|agent| agent.is_remote()).map(ToString::to_string)
    }

    fn check_times(&self) -> Result<(), Error> {
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.wait) {
            return Err(Error::invalid_input("wait is 1s to 10m"));
        }
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(Error::invalid_input("a timeout is longer than 0"));
        }
        if self.silence < Duration::from_secs(1) {
            return Err(Error::invalid_input("silence is at least 1s"));
        }
        if self.deregister_after < MIN_DEREGISTER_AFTER {
            return Err(Error::invalid_input("deregister_after is at least 1m"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(config: ConsulConfig) -> String {
        config.check().expect_err("it is wrong").to_string()
    }

    fn good() -> ConsulConfig {
        ConsulConfig::new(["127.0.0.1:8500"])
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(good().check().is_ok());
        assert!(message(ConsulConfig::new([""; 0])).contains("no Consul agent"));
        assert!(message(ConsulConfig::new(["localhost:x"])).contains("port"));
        assert!(message(ConsulConfig::new(["ftp://h:1"])).contains("http://"));
        assert!(message(good().with_request_timeout(Duration::ZERO)).contains("timeout"));
        assert!(message(good().with_wait(Duration::from_secs(601))).contains("10m"));
        assert!(message(good().with_deregister_after(Duration::from_secs(59))).contains("1m"));
        assert!(message(good().with_token("a\r\nb")).contains("token"));
        assert!(message(good().with_tag("")).contains("tag"));
        assert!(message(good().with_register_tag("a\n")).contains("tag"));
    }

    #[test]
    fn a_token_needs_tls_or_loopback_or_a_dangerous_word() {
        let at = |agent: &str| ConsulConfig::new([agent]).with_token("canary");
        for fine in ["127.0.0.1:8500", "[::1]:8500", "localhost:8500", "https://10.0.0.1:8501"] {
            assert!(at(fine).check().is_ok(), "{fine}");
        }
        let plaintext = at("10.0.0.1:8500");
        assert!(message(plaintext.clone()).contains("dangerous_plaintext_credentials=true"));
        assert!(plaintext.clone().with_tls(true).check().is_ok());
        let allowed = plaintext.with_dangerous_plaintext_credentials(true);
        assert!(allowed.check().is_ok() && allowed.exposed_agent().is_some());
        assert!(ConsulConfig::new(["10.0.0.1:8500"]).check().is_ok());
    }

    #[test]
    fn tls_is_never_switched_off_by_accident() {
        let mixed = || ConsulConfig::new(["https://h:1", "h:2"]);
        let urls: Vec<_> = mixed().urls().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["https://h:1", "https://h:2"]);
        assert!(good().with_ca_file("ca.pem").is_tls());
        assert!(message(mixed().with_tls(false)).contains("tls"));
    }

    #[test]
    fn no_secret_is_printed() {
        assert!(!message(ConsulConfig::new(["root:canary@h:1"])).contains("canary"));
        let config = ConsulConfig::new(["h:1"]).with_token("canary").with_user("u", "canary");
        assert!(!format!("{config:?} {:?}", config.check()).contains("canary"));
        for agent in ["root:canary@h:1", "root:canary", "http://canary:x", "canary;x:1"] {
            let config = ConsulConfig::new(["h:1", agent]).with_token_file("canary");
            let shown = format!("{config:?} {:?}", config.check());
            assert!(!shown.contains("canary") && shown.contains("h:1"), "{shown}");
        }
    }
}
