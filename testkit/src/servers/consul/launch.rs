//! How a Consul is started: its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::super::tls::Tls;
use super::addresses::Addresses;

/// What stays the same when an agent is started again.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) mode: Mode,
    pub(super) acl: bool,
    pub(super) hcl: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Mode {
    /// In memory.
    Dev,
    /// A cluster of one, on disk.
    Alone,
    /// Of a cluster, with the gossip addresses of all.
    Member(Vec<SocketAddr>),
}

/// May do everything where access control is on.
pub(super) const ROOT_TOKEN: &str = "00000000-0000-4000-8000-000000000001";

impl Launch {
    pub(super) fn command(&self, name: &str, at: &Addresses, tls: Option<&Tls>) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear();
        let ip = at.http.ip().to_string();
        command.args(["agent", "-node", name, "-bind", &ip, "-client", &ip, "-log-level", "info"]);
        match &self.mode {
            Mode::Dev => {
                command.arg("-dev");
            }
            Mode::Alone => {
                command.args(["-server", "-bootstrap-expect", "1"]);
                command.arg("-data-dir").arg(&self.data_dir);
            }
            Mode::Member(join) => {
                command.args(["-server", "-bootstrap-expect", &join.len().to_string()]);
                command.arg("-data-dir").arg(&self.data_dir);
                for peer in join {
                    command.args(["-retry-join", &peer.to_string()]);
                }
                command.args(["-retry-interval", "1s", "-encrypt", GOSSIP_KEY]);
            }
        }
        for line in self.hcl(at, tls) {
            command.args(["-hcl", &line]);
        }
        command
    }

    fn hcl(&self, at: &Addresses, tls: Option<&Tls>) -> Vec<String> {
        let https = if tls.is_some() { i32::from(at.https.port()) } else { -1 };
        let mut lines = vec![
            "disable_update_check = true".to_owned(),
            // Elections take a fifth of their usual time.
            "performance { raft_multiplier = 1 }".to_owned(),
            "leave_on_terminate = false".to_owned(),
            format!(
                "ports {{ http = {} https = {https} server = {} serf_lan = {} serf_wan = -1 dns = -1 grpc = -1 }}",
                at.http.port(),
                at.server.port(),
                at.gossip.port(),
            ),
        ];
        if let Some(tls) = tls {
            let server = tls.authority().server(at.http.ip());
            lines.push(format!("ca_file = \"{}\"", tls.ca().display()));
            lines.push(format!("cert_file = \"{}\"", server.cert().display()));
            lines.push(format!("key_file = \"{}\"", server.key().display()));
            lines.push("verify_incoming = true".to_owned());
            lines.push("verify_outgoing = true".to_owned());
        }
        if self.acl {
            let tokens = format!("tokens {{ master = \"{ROOT_TOKEN}\" agent = \"{ROOT_TOKEN}\" }}");
            lines.push(format!("acl {{ enabled = true default_policy = \"deny\" {tokens} }}"));
        }
        lines.extend(self.hcl.iter().cloned());
        lines
    }
}

/// Sixteen zeros: it has to be the same for all members, not to be secret.
const GOSSIP_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
