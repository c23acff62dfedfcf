//! A registry in a directory: one file an instance, `{root}/{service}/{address}`.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use fleetward::discovery::{Change, Entry, Listing, Source};
use fleetward::registration::{KeptAlive, Leased, Registry};
use fleetward::{Error, ErrorKind, Instance, Metadata, ServiceName};
use futures::{Stream, stream};

/// A directory that all processes see, looked through at an interval.
#[derive(Clone, Debug)]
pub struct Directory {
    pub root: PathBuf,
    pub poll_interval: Duration,
}

/// The address, then `name<tab>value` lines; a metadata key has a dot in front.
fn write(instance: &Instance, token: u64, ttl: Duration) -> Result<String, Error> {
    let (address, id, weight) = (instance.address(), instance.id(), instance.weight());
    let mut text = format!("{address}\nid\t{id}\nweight\t{weight}\ntoken\t{token}");
    text += &format!("\nttl\t{}", ttl.as_millis());
    text.extend(instance.zone().map(|zone| format!("\nzone\t{zone}")));
    text.extend(instance.version().map(|version| format!("\nversion\t{version}")));
    text.extend(instance.metadata().iter().map(|(key, value)| format!("\n.{key}\t{value}")));
    let same = read(&text).is_some_and(|(same, ..)| same == *instance);
    same.then_some(text).ok_or_else(|| Error::invalid_input("a tab or a line break in it"))
}

/// The instance, the token of who wrote it, and how long after a touch it counts.
fn read(text: &str) -> Option<(Instance, u64, Duration)> {
    let mut lines = text.lines();
    let mut instance = Instance::new(lines.next()?).ok()?;
    let (mut metadata, mut token, mut ttl) = (Metadata::default(), 0, Duration::MAX);
    for line in lines {
        let (name, value) = line.split_once('\t')?;
        match name {
            "id" => instance = instance.with_id(value).ok()?,
            "weight" => instance = instance.with_weight(value.parse().ok()?),
            "token" => token = value.parse().ok()?,
            "ttl" => ttl = Duration::from_millis(value.parse().ok()?),
            "zone" => instance = instance.with_zone(value),
            "version" => instance = instance.with_version(value),
            key => metadata.insert(key.strip_prefix('.')?, value).ok()?,
        }
    }
    Some((instance.with_metadata(metadata), token, ttl))
}

/// What a file says; nothing if it is gone, or if nobody touched it for its time to live.
fn look(path: &Path) -> Result<Option<(Instance, u64, Duration)>, Error> {
    let found = fs::read(path).and_then(|text| Ok((text, fs::metadata(path)?.modified()?)));
    let (text, touched) = match found {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(failed)?,
    };
    let found = read(&String::from_utf8_lossy(&text));
    let (.., ttl) = found.as_ref().ok_or_else(|| Error::invalid_data("no instance in the file"))?;
    if touched.elapsed().unwrap_or_default() > *ttl {
        let _already_gone = fs::remove_file(path);
        return Ok(None);
    }
    Ok(found)
}

fn list(root: &Path, service: &ServiceName) -> Result<Listing<String>, Error> {
    // A mount that is missing is an outage, not an empty registry.
    fs::metadata(root).map_err(failed)?;
    let files = match fs::read_dir(root.join(service.as_str())) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Vec::new(),
        files => files.and_then(Iterator::collect).map_err(failed)?,
    };
    let mut entries = Vec::new();
    for path in files.iter().map(fs::DirEntry::path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(found) = look(&path).transpose() {
            entries.push(Entry::new(&*name, found.map(|(instance, ..)| instance)));
        }
    }
    entries.sort_by(|a, b| a.key().cmp(b.key()));
    let cursor = format!("{entries:?}");
    Ok(Listing::new(entries, cursor))
}

impl Source for Directory {
    type Cursor = String;

    async fn list(&self, service: &ServiceName) -> Result<Listing<String>, Error> {
        let (root, service) = (self.root.clone(), service.clone());
        blocking(move || list(&root, &service)).await
    }

    fn watch(
        &self,
        service: &ServiceName,
        from: String,
    ) -> impl Stream<Item = Result<Change<String>, Error>> + Send {
        let start = (self.clone(), service.clone(), from);
        stream::try_unfold(start, |(directory, service, seen)| async move {
            loop {
                tokio::time::sleep(directory.poll_interval).await;
                let now = directory.list(&service).await?;
                if now.cursor != seen {
                    let seen = now.cursor.clone();
                    return Ok(Some((Change::Full(now), (directory, service, seen))));
                }
            }
        })
    }
}

impl Registry for Directory {
    type Lease = (PathBuf, u64);

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
    ) -> Result<Leased<(PathBuf, u64)>, Error> {
        let token = RandomState::new().hash_one(());
        let text = write(instance, token, ttl)?;
        let (draft, folder) =
            (self.root.join(format!(".{token}")), self.root.join(service.as_str()));
        let path = folder.join(instance.address().authority());
        blocking(move || {
            let _already_there = fs::create_dir(&folder);
            fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(failed)?;
            Ok(Leased { lease: (path, token), ttl })
        })
        .await
    }

    async fn keep_alive(&self, lease: &mut (PathBuf, u64)) -> Result<KeptAlive, Error> {
        let (path, token) = lease.clone();
        blocking(move || match look(&path)? {
            Some((_, found, ttl)) if found == token => {
                let file = fs::File::options().write(true).open(&path);
                file.and_then(|file| file.set_modified(SystemTime::now())).map_err(failed)?;
                Ok(KeptAlive::Alive { ttl })
            }
            Some(_) => Ok(KeptAlive::Superseded { reason: gone("somebody else wrote the file") }),
            None => Ok(KeptAlive::Lost { reason: gone("the file is gone, or too old") }),
        })
        .await
    }

    async fn deregister(&self, (path, token): (PathBuf, u64)) -> Result<(), Error> {
        blocking(move || match look(&path)? {
            Some((_, found, _)) if found == token => fs::remove_file(&path).map_err(failed),
            _ => Ok(()),
        })
        .await
    }
}

fn failed(why: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the directory cannot be used").with_source(why)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|why| failed(why.into()))?
}

fn gone(why: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, why)
}
