//! How an etcd is started: its command line.

use std::path::PathBuf;
use std::process::Command;

use super::super::tls::Tls;
use super::addresses::Addresses;

/// What stays the same when a server is started again, unless a test changes it in between.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) data_dir: PathBuf,
    /// `--initial-cluster`: all members, with their peer URLs.
    pub(super) members: String,
    /// Counted up to get another cluster id, which etcd derives from the members and a token.
    pub(super) generation: u32,
    /// Given last: etcd takes the last one of a repeated argument.
    pub(super) args: Vec<String>,
}

impl Launch {
    pub(super) fn command(&self, name: &str, at: &Addresses, tls: Option<&Tls>) -> Command {
        let mut command = Command::new(&self.program);
        // etcd reads its options from variables too (and complains about ETCD_BIN).
        command.env_clear();

        let scheme = if tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", at.client);
        let peer = format!("http://{}", at.peer);
        command.args(["--name", name]);
        command.arg("--data-dir").arg(&self.data_dir);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-metrics-urls", &format!("http://{}", at.metrics)]);
        command.args(["--initial-cluster", &self.members]);
        command.args(["--initial-cluster-token", &format!("fleetward-{}", self.generation)]);
        if let Some(tls) = tls {
            let server = tls.authority().server(at.client.ip());
            command.arg("--cert-file").arg(server.cert()).arg("--key-file").arg(server.key());
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(tls.ca());
        }
        // Elections are faster than by default, and so is the shortest lease, which etcd derives
        // from the election timeout (1 s instead of 2). A server alone waits for its timeout at
        // each restart and cannot lose an election by being slow, so its timeout is shorter still.
        let alone = !self.members.contains(',');
        let (heartbeat, election) = if alone { ("10", "100") } else { ("50", "500") };
        command.args(["--heartbeat-interval", heartbeat, "--election-timeout", election]);
        // The data has to survive the process, not the machine.
        command.arg("--unsafe-no-fsync");
        command.args(&self.args);
        command
    }
}
