//! Which registry it is.

use std::process::Command;

use fleetward_testkit::servers::{Server, require};

/// What the program says of itself in its first line, as "etcd 3.5.16".
pub(crate) fn of(server: Server) -> Option<String> {
    let program = require(server)?;
    let output = Command::new(program).arg("--version").output().ok()?;
    named(&String::from_utf8_lossy(&output.stdout))
}

/// "etcd Version: 3.5.16" and "Consul v1.8.7+dfsg1" by the same rule: the first word and the last one.
fn named(said: &str) -> Option<String> {
    let mut words = said.lines().next()?.split_whitespace();
    let (name, version) = (words.next()?, words.next_back()?);
    Some(format!("{name} {}", version.trim_start_matches('v')))
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn the_name_and_the_version_are_taken_from_the_first_line() {
        let etcd = "etcd Version: 3.5.16\nGit SHA: GitNotFound\n";
        assert_eq!(named(etcd).as_deref(), Some("etcd 3.5.16"));
        assert_eq!(named("Consul v1.8.7+dfsg1\nProtocol 2").as_deref(), Some("Consul 1.8.7+dfsg1"));
        assert_eq!(named(""), None);
    }
}
