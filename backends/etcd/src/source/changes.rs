//! What the messages of a watch mean: changes, signs of life, or that the history is lost.

use std::sync::Arc;

use fleetward_core::discovery::{Change, KeyChange};
use fleetward_core::{Error, ErrorKind};

use super::cursor::{EtcdCursor, MAX_BYTES};
use crate::client::{Event, Response};
use crate::codec::{self, Codec};

/// Follows one watch.
pub(super) struct Changes {
    codec: Arc<dyn Codec>,
    root: String,
    cursor: EtcdCursor,
    /// Events of a response whose last fragment is not there yet.
    pending: Vec<Event>,
    pending_bytes: usize,
}

pub(super) enum Verdict {
    /// There is more to come before anything can be said.
    Partial,
    /// This happened.
    Change(Change<EtcdCursor>),
    /// The watch cannot go on from its cursor.
    Lost(Error),
    /// The server ended the watch, and said why.
    Refused(String),
}

impl Changes {
    pub(super) fn new(codec: Arc<dyn Codec>, root: String, cursor: EtcdCursor) -> Self {
        Self { codec, root, cursor, pending: Vec::new(), pending_bytes: 0 }
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn cursor(&self) -> EtcdCursor {
        self.cursor
    }

    pub(super) fn accept(&mut self, response: Response) -> Verdict {
        if response.cluster != 0 && response.cluster != self.cursor.cluster {
            return lost("the answer comes from another cluster; its history is another one");
        }
        if response.compact_revision != 0 {
            return lost("the history that the watch needs has been compacted");
        }
        if let Some(reason) = response.canceled {
            return Verdict::Refused(reason);
        }
        if response.created {
            // A watch from the future is accepted, and silent. A member that lags behind looks
            // the same; the list that follows waits until it has caught up.
            if response.revision < self.cursor.revision {
                return lost("etcd is older than what was read before; it was restored or wiped");
            }
            return Verdict::Change(Change::Progress);
        }
        self.pending_bytes += response.events.iter().map(size).sum::<usize>();
        self.pending.extend(response.events);
        if self.pending_bytes > MAX_BYTES {
            return lost("the changes since then take more than 64 MiB; a list is shorter");
        }
        if response.fragment {
            return Verdict::Partial;
        }
        self.pending_bytes = 0;
        let events = std::mem::take(&mut self.pending);
        // Not the header's revision: a server that is catching up sends its own newest one with
        // events that are older, and more of those follow.
        let Some(newest) = events.iter().map(Event::revision).max() else {
            return Verdict::Change(Change::Progress);
        };
        self.cursor.revision = self.cursor.revision.max(newest);
        let changes = events.into_iter().map(|event| self.read(event)).collect();
        Verdict::Change(Change::Keys { changes, cursor: self.cursor })
    }

    fn read(&self, event: Event) -> KeyChange {
        match event {
            Event::Put(found, revision) => {
                codec::read(&*self.codec, &self.root, &found.key, &found.value, revision)
            }
            Event::Delete(key, _) => KeyChange::Delete(codec::key_name(&key)),
        }
    }
}

fn lost(why: &'static str) -> Verdict {
    Verdict::Lost(Error::new(ErrorKind::CursorLost, why))
}

fn size(event: &Event) -> usize {
    match event {
        Event::Put(found, _) => found.key.len() + found.value.len(),
        Event::Delete(key, _) => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::KeyValue;
    use crate::config::{EtcdCodec, EtcdConfig};

    fn changes() -> Changes {
        let config = EtcdConfig::new(["h:1"]).with_codec(EtcdCodec::Plain).with_schema("s");
        Changes::new(codec::codec(&config), "/s/a/".into(), EtcdCursor { revision: 10, cluster: 7 })
    }

    fn response(events: Vec<Event>) -> Response {
        Response { revision: 99, cluster: 7, events, ..Response::default() }
    }

    fn put(n: u8, revision: i64) -> Event {
        let value = format!("10.0.0.{n}:80").into_bytes();
        let key = [b"/s/a/", &value[..]].concat();
        Event::Put(KeyValue { key, value, lease: 0, revision }, revision)
    }

    fn is_lost(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Lost(error) if error.is_cursor_lost())
    }

    #[test]
    fn fragments_are_one_change_and_the_cursor_waits_for_the_last() {
        let mut changes = changes();
        let first = Response { fragment: true, ..response(vec![put(1, 11)]) };
        assert!(matches!(changes.accept(first), Verdict::Partial));
        assert_eq!(changes.cursor().revision, 10);
        let last = response(vec![put(2, 11), Event::Delete(b"/s/a/x".to_vec(), 11)]);
        let Verdict::Change(Change::Keys { changes: keys, cursor }) = changes.accept(last) else {
            panic!("no change")
        };
        assert_eq!((keys.len(), cursor.revision()), (3, 11));
        assert!(matches!(&keys[2], KeyChange::Delete(key) if &**key == "/s/a/x"));
    }

    #[test]
    fn compaction_and_strange_clusters_lose_the_cursor() {
        let canceled = Some("compacted".to_owned());
        // This is how etcd says it: the header's revision is 0.
        let compacted = Response {
            revision: 0,
            cluster: 7,
            canceled,
            compact_revision: 20,
            ..Response::default()
        };
        let mut changes = changes();
        assert!(is_lost(changes.accept(compacted)));
        assert_eq!(changes.cursor().revision, 10);
        assert!(is_lost(changes.accept(Response { cluster: 8, ..response(vec![]) })));
        let older = Response { created: true, revision: 9, ..response(vec![]) };
        assert!(is_lost(changes.accept(older)));
        let same = Response { created: true, revision: 10, ..response(vec![]) };
        assert!(matches!(changes.accept(same), Verdict::Change(Change::Progress)));
    }

    #[test]
    fn a_refusal_in_the_stream_keeps_its_reason() {
        let refusal = Response {
            created: true,
            canceled: Some("etcdserver: permission denied".into()),
            ..response(vec![])
        };
        let Verdict::Refused(reason) = changes().accept(refusal) else { panic!("not refused") };
        assert!(reason.contains("permission denied"));
    }

    #[test]
    fn progress_never_moves_the_cursor() {
        let mut changes = changes();
        assert!(matches!(changes.accept(response(vec![])), Verdict::Change(Change::Progress)));
        assert_eq!(changes.cursor().revision, 10);
    }
}
