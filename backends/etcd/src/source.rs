//! Discovery: a list in pages of one revision, and a watch from there.

mod changes;
mod cursor;

use fleetward_core::discovery::{Change, KeyChange, Listing, Source};
use fleetward_core::registry::redact;
use fleetward_core::{Error, ErrorKind, ServiceName};
use futures::{Stream, stream};

pub use self::cursor::EtcdCursor;
use self::cursor::MAX_BYTES;
use crate::EtcdRegistry;
use crate::client::{Watch, Watched};
use crate::codec;
use changes::{Changes, Verdict};

impl Source for EtcdRegistry {
    type Cursor = EtcdCursor;

    async fn list(&self, service: &ServiceName) -> Result<Listing<EtcdCursor>, Error> {
        let named = |error: Error| error.with_context("service", service);
        self.pages(service).await.map_err(named)
    }

    fn watch(
        &self,
        service: &ServiceName,
        from: EtcdCursor,
    ) -> impl Stream<Item = Result<Change<EtcdCursor>, Error>> + Send {
        let root = self.codec.root(service);
        let start = Watching {
            registry: self.clone(),
            service: service.clone(),
            changes: Changes::new(self.codec.clone(), root, from),
            watch: None,
        };
        stream::unfold(Some(start), |watching| async move {
            let mut watching = watching?;
            match watching.next().await {
                Ok(change) => Some((Ok(change), Some(watching))),
                Err(error) => Some((Err(error.with_context("service", watching.service)), None)),
            }
        })
    }

    fn describe(&self, service: &ServiceName) -> String {
        let (urls, root) = (self.client.urls().join(","), self.codec.root(service));
        format!("etcd at {urls}, keys below {}, codec {}", redact::name(&root), self.codec.name())
    }
}

impl EtcdRegistry {
    async fn pages(&self, service: &ServiceName) -> Result<Listing<EtcdCursor>, Error> {
        let root = self.codec.root(service);
        let end = range_end(&root);
        let (mut from, mut limit) = (root.clone().into_bytes(), self.page_size);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut cursor: Option<EtcdCursor> = None;
        loop {
            let revision = cursor.map_or(0, |cursor| cursor.revision);
            let page = match self.client.range(&from, &end, limit, revision).await {
                // Huge values: a page of fewer keys fits into a message.
                Err(error) if error.kind() == ErrorKind::LimitExceeded && limit > 1 => {
                    limit = limit.div_ceil(8);
                    continue;
                }
                page => page?,
            };
            // The later pages are of the first one's revision, whatever happens in between.
            let at = EtcdCursor { revision: page.revision, cluster: page.cluster };
            let cursor = *cursor.get_or_insert(at);
            for found in &page.entries {
                let change = {
                    let (key, value, revision) = (&found.key, &found.value, found.revision);
                    codec::read(&*self.codec, &root, key, value, revision)
                };
                if let KeyChange::Put(entry) = change {
                    // A value that was refused is not kept.
                    let kept =
                        if entry.readable().next().is_some() { found.value.len() } else { 0 };
                    bytes += found.key.len() + kept;
                    entries.push(entry);
                }
            }
            if entries.len() > MAX_ENTRIES || bytes > MAX_BYTES {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    "a service has at most 100,000 instances and 64 MiB of them",
                ));
            }
            match page.entries.last() {
                Some(last) if page.more => from = [&last.key[..], &[0]].concat(),
                _ => return Ok(Listing::new(entries, cursor)),
            }
        }
    }
}

/// A watch that opens when it is first polled.
struct Watching {
    registry: EtcdRegistry,
    service: ServiceName,
    changes: Changes,
    watch: Option<Watch>,
}

impl Watching {
    async fn next(&mut self) -> Result<Change<EtcdCursor>, Error> {
        loop {
            let (watch, response) = match &mut self.watch {
                Some(watch) => {
                    let response = watch.next().await?;
                    (watch, response)
                }
                none => {
                    let root = self.changes.root();
                    let watched = Watched {
                        id: 0,
                        from: root.as_bytes().to_vec(),
                        end: range_end(root),
                        revision: self.changes.cursor().revision + 1,
                    };
                    let (watch, response) = self.registry.client.watch(&watched).await?;
                    (none.insert(watch), response)
                }
            };
            match self.changes.accept(response) {
                Verdict::Partial => {}
                Verdict::Change(change) => return Ok(change),
                Verdict::Lost(error) => return Err(error.with_operation("watch")),
                Verdict::Refused(reason) => return Err(watch.refused(&reason)),
            }
        }
    }
}

/// The end of the range of all keys that start with `root`, which ends in `/`.
fn range_end(root: &str) -> Vec<u8> {
    let mut end = root.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

const MAX_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_keys_below_the_root_only() {
        let (root, end) = ("foo/", range_end("foo/"));
        assert_eq!(end, b"foo0");
        for (key, inside) in
            [("foo/", true), ("foo/~", true), ("foo", false), ("foo0", false), ("foobar/1", false)]
        {
            assert_eq!((root.as_bytes()..&end[..]).contains(&key.as_bytes()), inside, "{key}");
        }
    }
}
