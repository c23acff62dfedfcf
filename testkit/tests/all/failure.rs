//! What a failing test leaves behind: the log, and nothing else.

use std::fs;
use std::path::PathBuf;

use fleetward_testkit::servers::{Etcd, Server, require};

#[test]
fn the_log_is_kept_and_shown_when_a_test_panics() {
    let Some(left) = run_victim("failure::panicking_victim") else { return };
    assert!(left.stderr.contains("ready to serve client requests"), "{}", left.stderr);
    assert!(left.stderr.contains("(kept)"), "{}", left.stderr);
    assert_eq!(left.files, ["log"]);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let Some(left) = run_victim("failure::refusing_victim") else { return };
    assert!(left.stderr.contains("etcd ended while it was starting"), "{}", left.stderr);
    assert!(left.stderr.contains("no-such-flag"), "{}", left.stderr);
    assert_eq!(left.files, ["log"]);
}

#[tokio::test]
#[ignore = "run by a test above: it fails"]
async fn panicking_victim() {
    let _etcd = Etcd::start().await;
    panic!("as every test may");
}

#[tokio::test]
#[ignore = "run by a test above: it fails"]
async fn refusing_victim() {
    Etcd::builder().with_args(["--no-such-flag"]).start().await;
}

struct Left {
    stderr: String,
    /// What is in the servers' temporary folders afterwards.
    files: Vec<String>,
}

fn run_victim(test: &str) -> Option<Left> {
    require(Server::Etcd)?;
    require(Server::Etcdctl)?;
    let temp = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test.replace("::", "-"));
    let _ = fs::remove_dir_all(&temp);
    fs::create_dir_all(&temp).expect("cargo's temporary folder can be written");
    let output = super::victim(test).env("TMPDIR", &temp).output().expect("this binary can be run");
    assert!(!output.status.success());
    let list = |folder: PathBuf| {
        fs::read_dir(folder).expect("it is a folder").map(|entry| entry.expect("it is listed"))
    };
    let files = list(temp.clone())
        .flat_map(|server| list(server.path()))
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect();
    fs::remove_dir_all(&temp).expect("it is there");
    Some(Left { stderr: String::from_utf8_lossy(&output.stderr).into_owned(), files })
}
