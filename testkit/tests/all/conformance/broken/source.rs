//! Reading, and what is wrong with it.

use std::pin::pin;
use std::sync::atomic::Ordering;

use fleetward_core::discovery::{Change, Entry, KeyChange, Listing, Source};
use fleetward_core::{Error, ErrorKind, Instance, Metadata, ServiceName};
use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;

use super::{Broken, Cursor, Fault, Server};

impl Source for Broken {
    type Cursor = Cursor;

    async fn list(&self, service: &ServiceName) -> Result<Listing<Cursor>, Error> {
        self.answers()?;
        // First: what is written by hand from here on ends the watch that begins there.
        let age = self.server.borrow().age;
        if self.is(Fault::StaysLockedWhenDropped) {
            if self.locked.swap(true, Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Other, "locked"));
            }
            tokio::task::yield_now().await;
            self.locked.store(false, Ordering::Relaxed);
        }
        let mut listing = self.table.list(service).await?;
        if self.is(Fault::LeaksSiblings) && service.as_str() == "foo" {
            let sibling = ServiceName::new("foobar")?;
            listing.entries.extend(self.table.list(&sibling).await?.entries);
        }
        if self.is(Fault::ListsFirstPageOnly) {
            listing.entries.truncate(500);
        }
        if self.is(Fault::ListsAKeyTwice) {
            listing.entries.extend(listing.entries.first().cloned());
        }
        if self.is(Fault::ListFailsWhenEmpty) && listing.entries.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "there is no such service"));
        }
        listing.entries = listing.entries.into_iter().map(|entry| self.told(entry)).collect();
        listing.entries.extend(self.by_hand(service)?);
        let cursor = Cursor { table: listing.cursor, age };
        Ok(Listing::new(listing.entries, cursor))
    }

    fn watch(
        &self,
        service: &ServiceName,
        from: Cursor,
    ) -> impl Stream<Item = Result<Change<Cursor>, Error>> + Send {
        let mut server = self.server.subscribe();
        if server.borrow_and_update().age != from.age {
            server.mark_changed();
        }
        let start = Watching {
            broken: self.clone(),
            service: service.clone(),
            server,
            begun: false,
            then: None,
        };
        stream::unfold(Some((start, from)), |state| async move {
            let (mut watching, from) = state?;
            match watching.next(from).await? {
                Ok((change, cursor)) => Some((Ok(change), Some((watching, cursor)))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Broken {
    fn told(&self, entry: Entry) -> Entry {
        let forget = |instance: &Instance| match self.fault {
            Fault::ForgetsMetadata => instance.clone().with_metadata(Metadata::default()),
            Fault::ForgetsWeights => instance.clone().with_weight(1),
            _ => instance.clone(),
        };
        let told = entry.instances().iter().cloned().map(|read| read.map(|it| forget(&it)));
        Entry::several(entry.key().clone(), told)
    }

    fn by_hand(&self, service: &ServiceName) -> Result<Vec<Entry>, Error> {
        let raw = self.raw.lock().expect("nobody panics with it");
        let ours = raw.iter().filter(|((name, _), _)| name == service);
        ours.map(|((_, key), value)| {
            let text = std::str::from_utf8(value).map_err(|_| Error::invalid_data("not UTF-8"));
            let instance = text.and_then(Instance::new);
            match instance {
                Err(error) if self.is(Fault::OneBadValueFailsTheList) => Err(error),
                instance => Ok(Entry::new(&**key, instance)),
            }
        })
        .collect()
    }
}

struct Watching {
    broken: Broken,
    service: ServiceName,
    server: watch::Receiver<Server>,
    begun: bool,
    /// Told next, before anything else.
    then: Option<Change<Cursor>>,
}

type News = Result<(Change<Cursor>, Cursor), Error>;

impl Watching {
    /// The next change after a cursor, by a watch of its own; nothing at the watch's end.
    async fn next(&mut self, from: Cursor) -> Option<News> {
        let Self { broken, service, server, begun, then } = self;
        if let Some(again) = then.take() {
            return Some(Ok((again, from)));
        }
        let skip = broken.is(Fault::WatchesFromNow) && !std::mem::replace(begun, true);
        let now = broken.table.list(service).await.ok()?;
        let at = |table| Cursor { table, age: from.age };
        let from = if skip { at(now.cursor) } else { from };
        let mut watch = pin!(broken.table.watch(service, from.table));
        tokio::select! {
            change = watch.next() => match change?.ok()? {
                Change::Keys { changes, cursor } if broken.is(Fault::TellsOldSets) => {
                    drop(changes);
                    let cursor = at(cursor);
                    let newer = broken.table.list(service).await.ok()?;
                    let newer = Listing::new(newer.entries, at(newer.cursor));
                    *then = Some(Change::Full(Listing::new(Vec::new(), cursor)));
                    Some(Ok((Change::Full(newer), cursor)))
                }
                Change::Keys { changes, cursor } => {
                    let cursor = at(cursor);
                    let told = if broken.is(Fault::CursorGoesBack) { from } else { cursor };
                    let change = damaged(broken, changes, told);
                    *then = broken.is(Fault::RepeatsAMessage).then(|| change.clone());
                    Some(Ok((change, cursor)))
                }
                _ => None,
            },
            _ = server.changed() => match broken.answers() {
                Err(_) if broken.is(Fault::OutageLooksLikeDeletes) => {
                    let gone = now.entries.into_iter().map(|entry| KeyChange::Delete(entry.key().clone()));
                    let cursor = at(now.cursor);
                    Some(Ok((Change::Keys { changes: gone.collect(), cursor }, cursor)))
                }
                Err(error) => Some(Err(error)),
                Ok(()) if broken.is(Fault::HangsWhenKilled) => std::future::pending().await,
                Ok(()) => None,
            },
        }
    }
}

fn damaged(broken: &Broken, changes: Vec<KeyChange>, cursor: Cursor) -> Change<Cursor> {
    let changes = changes.into_iter().filter_map(|change| match change {
        KeyChange::Put(entry) => Some(KeyChange::Put(broken.told(entry))),
        KeyChange::Delete(_) if broken.is(Fault::NeverTellsDeletes) => None,
        other => Some(other),
    });
    let times = if broken.is(Fault::TellsAChangeTwice) { 2 } else { 1 };
    let changes = changes.flat_map(|change| std::iter::repeat_n(change, times));
    Change::Keys { changes: changes.collect(), cursor }
}
