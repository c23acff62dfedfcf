//! The greeter's processes, started as a user would.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The example, which cargo builds beside the tests.
pub(crate) fn greeter() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/greeter");
    assert!(
        path.exists(),
        "{} is missing: build it with cargo build --example greeter --all-features",
        path.display()
    );
    path
}

/// A server process; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) address: String,
}

impl Server {
    /// Starts one on a free port and waits until it is registered.
    pub(crate) async fn start(registry: &str) -> Self {
        let mut child = command()
            .args(["server", "--port", "0", "--ttl", "5s", "--registry", registry])
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), stdout.next_line()).await;
        let line = line.unwrap().unwrap().expect("the server ended instead of serving");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { child, stdout, address }
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; waits for the end and checks that it went well.
    pub(crate) async fn terminate(mut self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(sent.success());
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        assert!(ended.unwrap().unwrap().success());
        assert_eq!(self.stdout.next_line().await.unwrap().unwrap(), "deregistered and drained");
    }
}

/// What a client process says in the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) last_line: String,
}

/// A client process; await its outcome after doing harm.
pub(crate) fn client(
    registry: &str,
    calls: u32,
    interval: &str,
) -> tokio::task::JoinHandle<Outcome> {
    let child = command()
        .args(["client", "--registry", registry, "--interval", interval])
        .args(["--calls", &calls.to_string(), "--balancer", "round_robin"])
        .spawn()
        .unwrap();
    tokio::spawn(async {
        let output = child.wait_with_output().await.unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let last_line = stdout.lines().last().unwrap_or_default().to_owned();
        Outcome { success: output.status.success(), last_line }
    })
}

fn command() -> Command {
    let mut command = Command::new(greeter());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}
