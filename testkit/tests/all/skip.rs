//! The rule for a missing program.

use std::process::Output;

use fleetward_testkit::servers::{Etcd, Server, require};

#[test]
fn a_missing_program_skips_the_test() {
    let output = run_victim(&[("CI", "")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("SKIPPED: etcd not found; run ./scripts/servers"), "{stderr}");
}

#[test]
fn a_missing_program_fails_the_test_in_ci() {
    let output = run_victim(&[("CI", "true")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("run ./scripts/servers"), "{stderr}");
    assert!(!stderr.contains("SKIPPED"), "{stderr}");
}

#[test]
fn a_variable_that_names_no_file_fails_the_test() {
    let output = run_victim(&[("CI", ""), ("ETCD_BIN", "/no/such/etcd")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("ETCD_BIN=/no/such/etcd is not a file"), "{stderr}");
}

#[test]
fn what_is_found_is_a_file() {
    let servers = [Server::Etcd, Server::Etcd34, Server::Etcdctl, Server::Consul];
    for program in servers.into_iter().filter_map(require) {
        assert!(program.is_file());
    }
}

#[tokio::test]
#[ignore = "run by the tests above, where there is no program"]
async fn victim() {
    let Some(_etcd) = Etcd::start_or_skip().await else { return };
    unreachable!("there is no etcd");
}

fn run_victim(variables: &[(&str, &str)]) -> Output {
    super::victim("skip::victim")
        .env_remove("ETCD_BIN")
        .env("FLEETWARD_CACHE", "/no/such/cache")
        .env("PATH", "")
        .envs(variables.iter().copied())
        .output()
        .expect("this binary can be run")
}
