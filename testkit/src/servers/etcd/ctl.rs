//! etcdctl, to look at a server, and to change it, without the client under test.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{Etcd, EtcdCluster};

impl Etcd {
    /// Runs `etcdctl` against this server and returns what it printed.
    ///
    /// ```no_run
    /// # use fleetward_testkit::servers::Etcd;
    /// # async fn test(etcd: Etcd) {
    /// etcd.etcdctl(&["put", "/services/users/1", "10.0.0.1:80"]).await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If it fails, with what it printed on stderr, or takes too long.
    pub async fn etcdctl(&self, args: &[&str]) -> String {
        succeeded(args, self.try_etcdctl(args).await)
    }

    /// Like [`etcdctl`](Self::etcdctl), where failing is fine.
    pub async fn try_etcdctl(&self, args: &[&str]) -> Output {
        run(self, &self.client_url(), args).await
    }
}

impl EtcdCluster {
    /// Runs `etcdctl` with all members as endpoints, see [`Etcd::etcdctl`].
    pub async fn etcdctl(&self, args: &[&str]) -> String {
        succeeded(args, self.try_etcdctl(args).await)
    }

    /// Like [`etcdctl`](Self::etcdctl), where failing is fine.
    pub async fn try_etcdctl(&self, args: &[&str]) -> Output {
        run(self.member(0), &self.client_urls().join(","), args).await
    }
}

async fn run(etcd: &Etcd, endpoints: &str, args: &[&str]) -> Output {
    let mut command = Command::new(&etcd.etcdctl);
    // Cleared, for etcdctl refuses a variable that contradicts an argument.
    command.env_clear().env("ETCDCTL_API", "3");
    command.args(["--endpoints", endpoints, "--command-timeout=5s", "--dial-timeout=2s"]);
    if let Some(tls) = &etcd.tls {
        command.arg("--cacert").arg(tls.ca());
        command.arg("--cert").arg(tls.client().cert()).arg("--key").arg(tls.client().key());
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    timeout(DEADLINE, command.output())
        .await
        .unwrap_or_else(|_| panic!("etcdctl {args:?} took longer than {DEADLINE:?}"))
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", etcd.etcdctl.display()))
}

fn succeeded(args: &[&str], output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "etcdctl {args:?} failed: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Longer than etcdctl's own, so that its message is seen.
const DEADLINE: Duration = Duration::from_secs(10);
