//! The conformance suite on it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fleetward::{Instance, InstanceId, ServiceName};
use fleetward_testkit::conformance::{Capabilities, Capability, Subject};
use tempfile::TempDir;

use crate::directory::Directory;

fleetward_testkit::conformance_tests!(directory);

async fn directory() -> Option<Folder> {
    let folder = Folder(tempfile::tempdir().unwrap());
    fs::create_dir(folder.root()).unwrap();
    Some(folder)
}

struct Folder(TempDir);

impl Folder {
    fn root(&self) -> PathBuf {
        self.0.path().join("registry")
    }

    fn away(&self) -> PathBuf {
        self.0.path().join("away")
    }

    fn files(&self, service: &ServiceName, name: &str) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.root().join(service.as_str())) else { return vec![] };
        let paths = files.map(|file| file.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(name)).collect()
    }
}

impl Subject for Folder {
    type Backend = Directory;

    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with(Capability::RawWrites)
            .with(Capability::Keys)
            .with(Capability::LoseLease)
            .with(Capability::Restart)
            .without(Capability::Proxy, "there is no connection")
            .without(Capability::KillWatches, "a watch is a loop of lists")
    }

    async fn open(&self) -> Directory {
        Directory { root: self.root(), poll_interval: Duration::from_millis(50) }
    }

    async fn write_raw(&self, service: &ServiceName, key: &str, value: &[u8]) {
        let folder = self.root().join(service.as_str());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(key), value).unwrap();
    }

    async fn delete_raw(&self, service: &ServiceName, key: &str) {
        fs::remove_file(self.root().join(service.as_str()).join(key)).unwrap();
    }

    fn encoded(&self, instance: &Instance) -> Vec<u8> {
        instance.address().to_string().into_bytes()
    }

    async fn keys(&self, service: &ServiceName) -> Vec<String> {
        let files = self.files(service, "").into_iter();
        files.map(|path| path.display().to_string()).collect()
    }

    async fn lose_lease(&self, service: &ServiceName, id: &InstanceId) {
        let files = self.files(service, id.as_str());
        assert_eq!(files.len(), 1);
        fs::remove_file(&files[0]).unwrap();
    }

    async fn stop(&self) {
        fs::rename(self.root(), self.away()).unwrap();
    }

    async fn start(&self) {
        fs::rename(self.away(), self.root()).unwrap();
    }
}
