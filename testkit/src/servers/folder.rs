//! A server's temporary folder: its log, its data, gone afterwards unless the test failed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Removed on drop. If the test is panicking only the data is, and the log is shown.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: TempDir,
}

impl Folder {
    pub(crate) fn new(server: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("fleetward-{server}-"))
            .tempdir()
            .unwrap_or_else(|error| panic!("cannot make a folder for {server}: {error}"));
        Self { dir }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A file of the server's own, with this text.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Whether the server gave up because somebody else listens where it wants to.
    pub(crate) fn says_address_in_use(&self) -> bool {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).contains("address already in use")
    }

    /// The log, opened at its end: a server that is started again goes on in the same file.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // etcd allocates 64 MB for its first log segment: too much to leave behind.
            let _ = fs::remove_dir_all(self.data());
            self.dir.disable_cleanup(true);
            let log = self.log();
            eprintln!("--- the end of {} (kept):\n{}", log.display(), tail(&log));
        }
    }
}

fn tail(log: &Path) -> String {
    // A server may log what is not UTF-8.
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

const TAIL_LINES: usize = 30;
