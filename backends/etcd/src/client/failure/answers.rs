//! What etcd 3.4 and 3.5 really answer to each failure, and what we make of it.

use std::time::Duration;

use etcd_client::{Client, CompactionOptions, ConnectOptions, GetOptions, PutOptions};
use etcd_client::{LeaseGrantOptions, Txn, TxnOp, WatchOptions};
use fleetward_core::ErrorKind;
use fleetward_testkit::eventually;
use fleetward_testkit::servers::{Etcd, EtcdBuilder, EtcdVersion};
use tokio::time::sleep;

use super::{Blame, Failure};

const SECOND: Duration = Duration::from_secs(1);
const VERSIONS: [EtcdVersion; 2] = [EtcdVersion::V3_5, EtcdVersion::V3_4];

async fn start(builder: EtcdBuilder, version: EtcdVersion) -> Option<Etcd> {
    builder.with_version(version).start_or_skip().await
}

/// As our connections are, but for what they do about a failure.
async fn client(etcd: &Etcd, user: Option<(&str, &str)>) -> Result<Client, etcd_client::Error> {
    let options = ConnectOptions::new().with_require_leader(true);
    let options = match user {
        Some((name, password)) => options.with_user(name, password),
        None => options,
    };
    Client::connect([etcd.client_url()], Some(options)).await
}

/// A root and a `worker` who may do everything below `a/`, each with the password `pw`.
async fn protect(etcd: &Etcd) {
    for user in ["root", "worker"] {
        etcd.etcdctl(&["user", "add", &format!("{user}:pw")]).await;
        etcd.etcdctl(&["role", "add", user]).await;
        etcd.etcdctl(&["user", "grant-role", user, user]).await;
    }
    etcd.etcdctl(&["role", "grant-permission", "worker", "readwrite", "a/", "a0"]).await;
    etcd.etcdctl(&["auth", "enable"]).await;
}

async fn as_root(etcd: &Etcd, args: &[&str]) {
    etcd.etcdctl(&[&["--user", "root:pw"], args].concat()).await;
}

/// Says what it came to, and that the text is etcd's.
#[track_caller]
fn assert_failure<T>(
    answer: Result<T, etcd_client::Error>,
    text: &str,
    kind: ErrorKind,
    blame: Blame,
) {
    let Err(error) = answer else { panic!("no failure, but expected: {text}") };
    assert_meaning(error.into(), text, kind, blame);
}

#[track_caller]
fn assert_meaning(failure: Failure, text: &str, kind: ErrorKind, blame: Blame) {
    let error = &failure.error;
    println!("{error}");
    assert!(error.message().contains(text), "{error}");
    assert_eq!((error.kind(), failure.blame), (kind, blame), "{error}");
    assert!(!failure.is_transport, "{error}");
}

/// The refusal in a watch's stream.
async fn refusal(client: &Client, key: &str) -> Failure {
    let opened = client.watch_client().watch(key, Some(WatchOptions::new())).await;
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(error) => return error.into(),
    };
    match stream.message().await {
        Ok(Some(message)) if message.canceled() => {
            Failure::refused_in_stream(message.cancel_reason())
        }
        Ok(other) => panic!("not refused: {other:?}"),
        Err(error) => error.into(),
    }
}

#[tokio::test]
async fn logins_and_permissions() {
    use ErrorKind::{PermissionDenied, Unauthenticated};
    for version in VERSIONS {
        let Some(etcd) = start(Etcd::builder(), version).await else { return };
        let early = client(&etcd, Some(("worker", "pw"))).await;
        assert!(Failure::from(early.err().expect("nobody can log in")).is_auth_disabled());
        protect(&etcd).await;
        for user in [("worker", "wrong"), ("nobody", "pw")] {
            let login = client(&etcd, Some(user)).await;
            assert_failure(login, "authentication failed", Unauthenticated, Blame::Login);
        }
        let mut stranger = client(&etcd, None).await.unwrap();
        let text = "user name is empty";
        assert_failure(stranger.get("a/1", None).await, text, Unauthenticated, Blame::Login);
        let seen = refusal(&stranger, "a/1").await;
        // Older patch versions say "permission denied" here.
        assert_meaning(seen, text, Unauthenticated, Blame::Login);
        let mut worker = client(&etcd, Some(("worker", "pw"))).await.unwrap();
        worker.put("a/1", "x", None).await.unwrap();
        let text = "permission denied";
        assert_failure(worker.get("b", None).await, text, PermissionDenied, Blame::Nobody);
        let seen = refusal(&worker, "b").await;
        assert_meaning(seen, text, PermissionDenied, Blame::Login);
        as_root(&etcd, &["user", "revoke-role", "worker", "worker"]).await;
        assert_failure(worker.get("a/1", None).await, text, PermissionDenied, Blame::Nobody);
        // A simple token ends with its user.
        let text = "invalid auth token";
        as_root(&etcd, &["user", "delete", "worker"]).await;
        assert_failure(worker.get("a/1", None).await, text, Unauthenticated, Blame::Login);
        let login = client(&etcd, Some(("worker", "pw"))).await;
        assert_failure(login, "authentication failed", Unauthenticated, Blame::Login);
    }
}

#[tokio::test]
async fn tokens_that_are_no_longer_good() {
    use ErrorKind::Unauthenticated;
    for version in VERSIONS {
        for jwt in [false, true] {
            let builder = match jwt {
                false => Etcd::builder().with_auth_token_ttl(SECOND),
                true => Etcd::builder().with_jwt(SECOND),
            };
            let Some(etcd) = start(builder, version).await else { return };
            protect(&etcd).await;
            let mut worker = client(&etcd, Some(("worker", "pw"))).await.unwrap();
            sleep(3 * SECOND).await;
            let text = "invalid auth token";
            assert_failure(worker.get("a/1", None).await, text, Unauthenticated, Blame::Login);
            let seen = refusal(&worker, "a/1").await;
            assert_meaning(seen, text, Unauthenticated, Blame::Login);
        }
        let Some(etcd) = start(Etcd::builder().with_jwt(60 * SECOND), version).await else {
            return;
        };
        protect(&etcd).await;
        let mut worker = client(&etcd, Some(("worker", "pw"))).await.unwrap();
        worker.put("a/1", "x", None).await.unwrap();
        as_root(&etcd, &["user", "add", "somebody:else"]).await;
        let text = "revision of auth store is old";
        assert_failure(worker.get("a/1", None).await, text, Unauthenticated, Blame::Login);
        assert_failure(worker.put("a/1", "x", None).await, text, Unauthenticated, Blame::Login);
        let seen = refusal(&worker, "a/1").await;
        assert_meaning(seen, text, Unauthenticated, Blame::Login);
        as_root(&etcd, &["auth", "disable"]).await;
        let off = worker.get("a/1", None).await;
        match version {
            // It looks at the token even though nobody needs one.
            EtcdVersion::V3_4 => assert_failure(off, text, Unauthenticated, Blame::Login),
            _ => drop(off.unwrap()),
        }
        etcd.etcdctl(&["auth", "enable"]).await;
        assert_failure(worker.get("a/1", None).await, text, Unauthenticated, Blame::Login);
    }
}

#[tokio::test]
async fn history_sizes_and_leases() {
    use ErrorKind::{CursorLost, InvalidInput, LimitExceeded, NotFound};
    for version in VERSIONS {
        let Some(etcd) = start(Etcd::builder(), version).await else { return };
        let mut client = client(&etcd, None).await.unwrap();
        for n in 0..5 {
            client.put("a", n.to_string(), None).await.unwrap();
        }
        client.compact(4, Some(CompactionOptions::new())).await.unwrap();
        let at = |revision| Some(GetOptions::new().with_revision(revision));
        let text = "required revision has been compacted";
        assert_failure(client.get("a", at(2)).await, text, CursorLost, Blame::Nobody);
        let text = "required revision is a future revision";
        assert_failure(client.get("a", at(99)).await, text, CursorLost, Blame::Nobody);
        for (kib, text) in [(1600, "request is too large"), (2100, "message larger than max")] {
            let put = client.put("a", vec![b'x'; kib * 1024], None).await;
            assert_failure(put, text, LimitExceeded, Blame::Nobody);
        }
        let ops: Vec<_> = (0..200).map(|n| TxnOp::get(n.to_string(), None)).collect();
        let txn = client.txn(Txn::new().and_then(ops)).await;
        assert_failure(txn, "too many operations", InvalidInput, Blame::Nobody);
        let put = client.put("a", "x", Some(PutOptions::new().with_lease(77))).await;
        assert_failure(put, "requested lease not found", NotFound, Blame::Nobody);
        let revoked = client.lease_revoke(77).await;
        assert_failure(revoked, "requested lease not found", NotFound, Blame::Nobody);
        let granted = client.lease_grant(10_000_000_000, None).await;
        assert_failure(granted, "too large lease TTL", InvalidInput, Blame::Nobody);
        let own = || Some(LeaseGrantOptions::new().with_id(78));
        client.lease_grant(60, own()).await.unwrap();
        let again = client.lease_grant(60, own()).await.map_err(Failure::from);
        assert!(again.expect_err("it is there").is_lease_known());
    }
}

#[tokio::test]
async fn a_full_disk() {
    for version in VERSIONS {
        let quota = ["--quota-backend-bytes", "4194304"];
        let Some(etcd) = start(Etcd::builder().with_args(quota), version).await else { return };
        let mut client = client(&etcd, None).await.unwrap();
        // The size that counts is that of the last commit to disk, a tenth of a second ago.
        let fill = async {
            loop {
                let put = client.put("a", vec![b'x'; 1024 * 1024], None).await;
                if let Err(error) = put {
                    break error;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let full = tokio::time::timeout(Duration::from_secs(60), fill).await;
        let full = full.expect("the quota is used up");
        let kind = ErrorKind::Unavailable;
        assert_failure(Err::<(), _>(full), "database space exceeded", kind, Blame::Nobody);
        let granted = client.lease_grant(60, None).await;
        assert_failure(granted, "compact, defragment", kind, Blame::Nobody);
        assert!(client.get("a", None).await.is_ok(), "it can still be read");
    }
}

#[tokio::test]
async fn a_member_that_only_learns() {
    for version in VERSIONS {
        let Some(etcd) = start(Etcd::builder(), version).await else { return };
        let learner = Etcd::builder().with_version(version).start_learner(&etcd).await;
        let mut client = client(&learner, None).await.unwrap();
        let text = "rpc not supported for learner";
        let kind = ErrorKind::Unavailable;
        assert_failure(client.get("a", None).await, text, kind, Blame::Server);
        assert_failure(client.put("a", "x", None).await, text, kind, Blame::Server);
        assert_failure(client.lease_grant(5, None).await, text, kind, Blame::Server);
        let seen = refusal(&client, "a").await;
        assert_meaning(seen, text, kind, Blame::Server);
    }
}

#[tokio::test]
async fn a_member_without_a_leader() {
    for version in VERSIONS {
        let builder = Etcd::builder().with_version(version);
        let Some(cluster) = builder.start_cluster_or_skip(3).await else { return };
        let survivor = cluster.member(0);
        let mut strict = client(survivor, None).await.unwrap();
        let lax = ConnectOptions::new();
        let mut lax = Client::connect([survivor.client_url()], Some(lax)).await.unwrap();
        tokio::join!(cluster.member(1).kill(), cluster.member(2).kill());
        // A request that was forwarded to the leader of before, or is put into its own log.
        let put = lax.put("a", "x", None).await;
        assert_failure(put, "request timed out", ErrorKind::Timeout, Blame::Server);
        let noticed = || async { cluster.leader().await.is_none() };
        eventually("the loss is noticed", 10 * SECOND, noticed).await;
        let text = "no leader";
        let kind = ErrorKind::Unavailable;
        assert_failure(strict.get("a", None).await, text, kind, Blame::Cluster);
        assert_failure(strict.put("a", "x", None).await, text, kind, Blame::Cluster);
        assert_failure(strict.lease_grant(5, None).await, text, kind, Blame::Cluster);
        let seen = refusal(&strict, "a").await;
        assert_meaning(seen, text, kind, Blame::Cluster);
    }
}
