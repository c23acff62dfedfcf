//! The test kit on itself, with real servers. One binary: it links once.

#[path = "all/cluster.rs"]
mod cluster;
#[path = "all/conformance/mod.rs"]
mod conformance;
#[path = "all/consul.rs"]
mod consul;
#[path = "all/etcd.rs"]
mod etcd;
#[path = "all/failure.rs"]
mod failure;
#[path = "all/proxy.rs"]
mod proxy;
#[path = "all/skip.rs"]
mod skip;
#[path = "all/tls.rs"]
mod tls;
#[path = "all/wait.rs"]
mod wait;

/// Runs one ignored test of this binary in a process of its own: for what depends on variables,
/// which a test cannot set without disturbing the others, and for what is printed when it fails.
fn victim(test: &str) -> std::process::Command {
    let mut command =
        std::process::Command::new(std::env::current_exe().expect("this binary has a path"));
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    command
}
