//! Where a server's program is, and what happens when it is nowhere.

use std::env;
use std::path::{Path, PathBuf};

/// A program that tests start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// etcd, the newest that is tested: `ETCD_BIN`.
    Etcd,
    /// etcd 3.4, the oldest that is tested: `ETCD_3_4_BIN`.
    Etcd34,
    /// etcd's command line client: `ETCDCTL_BIN`.
    Etcdctl,
    /// Consul: `CONSUL_BIN`.
    Consul,
}

/// The program of `server`, or `None` after saying on stderr that the test is skipped.
///
/// Looked for in this order: the server's variable; the cache folder that `scripts/servers` fills
/// (`FLEETWARD_CACHE`, or `.cache/servers` in this package's folder or one above); `PATH`.
///
/// # Panics
///
/// If the program is missing and `CI` is `true`: there, a skipped test would pass for a green one.
/// If the variable is set to something that is not a file: a typo must not test another program.
pub fn require(server: Server) -> Option<PathBuf> {
    let found = find(server);
    if found.is_none() {
        let Source { label, .. } = server.source();
        let ci = env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
        assert!(!ci, "{label} not found, and CI must not skip its tests; run ./scripts/servers");
        eprintln!("SKIPPED: {label} not found; run ./scripts/servers");
    }
    found
}

/// Like [`require`], for a test that does not want to be skipped.
pub(crate) fn demand(server: Server) -> PathBuf {
    let Source { label, .. } = server.source();
    find(server).unwrap_or_else(|| panic!("{label} not found; run ./scripts/servers"))
}

fn find(server: Server) -> Option<PathBuf> {
    let Source { variable, cached, on_path, .. } = server.source();
    if let Some(own) = env::var_os(variable).filter(|own| !own.is_empty()) {
        let own = PathBuf::from(own);
        assert!(own.is_file(), "{variable}={} is not a file", own.display());
        return Some(own);
    }
    cache_folders()
        .map(|folder| folder.join(cached))
        .chain(on_path.into_iter().flat_map(path_folders))
        .find(|candidate| candidate.is_file())
}

/// A cache that was named is the only one, so that an empty one can be named too.
fn cache_folders() -> impl Iterator<Item = PathBuf> {
    let named = env::var_os("FLEETWARD_CACHE").filter(|named| !named.is_empty());
    // Cargo sets the variable to the tested package, which may be in another workspace than ours.
    let tested = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let packages = [tested, Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")))];
    let above = packages.into_iter().flatten().flat_map(|package| {
        package.ancestors().map(|folder| folder.join(".cache/servers")).collect::<Vec<_>>()
    });
    let above = if named.is_some() { None } else { Some(above) };
    named.map(PathBuf::from).into_iter().chain(above.into_iter().flatten())
}

fn path_folders(name: &'static str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>().into_iter()
}

/// One server's places; the table in `scripts/servers` says the same.
struct Source {
    label: &'static str,
    variable: &'static str,
    cached: &'static Path,
    /// `None` if a program of that name may well be another version.
    on_path: Option<&'static str>,
}

impl Server {
    fn source(self) -> Source {
        let (label, variable, cached, on_path) = match self {
            Self::Etcd => ("etcd", "ETCD_BIN", "etcd-3.5/usr/bin/etcd", Some("etcd")),
            Self::Etcd34 => ("etcd 3.4", "ETCD_3_4_BIN", "etcd-3.4/usr/bin/etcd", None),
            Self::Etcdctl => {
                ("etcdctl", "ETCDCTL_BIN", "etcdctl-3.4/usr/bin/etcdctl", Some("etcdctl"))
            }
            Self::Consul => ("consul", "CONSUL_BIN", "consul-1.8/usr/bin/consul", Some("consul")),
        };
        Source { label, variable, cached: Path::new(cached), on_path }
    }
}
