//! A source that does what a test says.

use std::fmt;
use std::sync::{Arc, Mutex};

use fleetward_core::discovery::{
    Change, Entry, KeyChange, Listing, Reflector, ReflectorConfig, Source,
};
use fleetward_core::model::ServiceSettings;
use fleetward_core::{Error, ErrorKind, Freshness, ServiceName, Snapshot};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::instance;

#[derive(Default)]
pub(crate) struct FakeSource {
    inner: Mutex<Inner>,
}

struct Inner {
    answer: Answer,
    /// What a new watch fails with at once, if anything.
    watch_error: Option<Error>,
    cursor: u64,
    lists: Vec<Instant>,
    watched_from: Vec<u64>,
    watch: Option<mpsc::UnboundedSender<Result<Change<u64>, Error>>>,
    watch_panics: bool,
    polled: bool,
    settings: Option<ServiceSettings>,
}

#[derive(Clone)]
enum Answer {
    Entries(Vec<Entry>),
    Error(Error),
    Never,
    Panic,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            answer: Answer::Entries(Vec::new()),
            watch_error: None,
            cursor: 1,
            lists: Vec::new(),
            watched_from: Vec::new(),
            watch: None,
            watch_panics: false,
            polled: false,
            settings: None,
        }
    }
}

impl FakeSource {
    /// Lists these addresses, each under itself as its key.
    pub(crate) fn of(addresses: &[&str]) -> Arc<Self> {
        let source = Arc::new(Self::default());
        source.will_list(entries(addresses));
        source
    }

    pub(crate) fn will_list(&self, entries: Vec<Entry>) {
        self.inner.lock().unwrap().answer = Answer::Entries(entries);
    }

    pub(crate) fn will_fail(&self, error: Error) {
        self.inner.lock().unwrap().answer = Answer::Error(error);
    }

    pub(crate) fn will_hang(&self) {
        self.inner.lock().unwrap().answer = Answer::Never;
    }

    pub(crate) fn will_panic(&self) {
        self.inner.lock().unwrap().answer = Answer::Panic;
    }

    /// Whether making a watch panics.
    pub(crate) fn watches_panic(&self, panic: bool) {
        self.inner.lock().unwrap().watch_panics = panic;
    }

    /// It is one that is asked now and then.
    pub(crate) fn is_polled_from_now_on(&self) {
        self.inner.lock().unwrap().polled = true;
    }

    /// Each list says this of the service.
    pub(crate) fn will_say(&self, settings: Option<ServiceSettings>) {
        self.inner.lock().unwrap().settings = settings;
    }

    pub(crate) fn fail_watches(&self, error: Option<Error>) {
        self.inner.lock().unwrap().watch_error = error;
    }

    pub(crate) fn set_cursor(&self, cursor: u64) {
        self.inner.lock().unwrap().cursor = cursor;
    }

    pub(crate) fn emit(&self, change: Result<Change<u64>, Error>) {
        let inner = self.inner.lock().unwrap();
        let watch = inner.watch.as_ref().expect("nobody watches yet");
        watch.send(change).expect("the watch was dropped");
    }

    pub(crate) fn put(&self, entry: Entry) {
        self.emit(Ok(Change::Keys { changes: vec![KeyChange::Put(entry)], cursor: 0 }));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.emit(Ok(Change::Keys { changes: vec![KeyChange::Delete(key.into())], cursor: 0 }));
    }

    pub(crate) fn full(&self, entries: Vec<Entry>) {
        self.emit(Ok(Change::Full(Listing::new(entries, 0))));
    }

    pub(crate) fn end_watch(&self) {
        self.inner.lock().unwrap().watch = None;
    }

    /// The watch fails, and so does every list from now on.
    pub(crate) fn go_down(&self) {
        self.will_fail(down());
        self.emit(Err(down()));
    }

    pub(crate) fn lists(&self) -> usize {
        self.inner.lock().unwrap().lists.len()
    }

    pub(crate) fn watched_from(&self) -> Vec<u64> {
        self.inner.lock().unwrap().watched_from.clone()
    }

    pub(crate) fn listed_at(&self) -> Vec<Instant> {
        self.inner.lock().unwrap().lists.clone()
    }

    /// Whether the newest watch is still read by anybody.
    pub(crate) fn is_watched(&self) -> bool {
        self.inner.lock().unwrap().watch.as_ref().is_some_and(|watch| !watch.is_closed())
    }
}

impl Source for FakeSource {
    type Cursor = u64;

    async fn list(&self, _: &ServiceName) -> Result<Listing<u64>, Error> {
        let (answer, cursor, settings) = {
            let mut inner = self.inner.lock().unwrap();
            inner.lists.push(Instant::now());
            (inner.answer.clone(), inner.cursor, inner.settings.clone())
        };
        match answer {
            Answer::Entries(entries) => {
                let listing = Listing::new(entries, cursor);
                Ok(match settings {
                    Some(settings) => listing.with_settings(settings),
                    None => listing,
                })
            }
            Answer::Error(error) => Err(error),
            Answer::Never => std::future::pending().await,
            Answer::Panic => panic!("a bug in a source, on purpose"),
        }
    }

    fn watch(
        &self,
        _: &ServiceName,
        from: u64,
    ) -> impl Stream<Item = Result<Change<u64>, Error>> + Send {
        let panics = self.inner.lock().unwrap().watch_panics;
        assert!(!panics, "a bug in a source, on purpose");
        let mut inner = self.inner.lock().unwrap();
        inner.watched_from.push(from);
        let stream: BoxStream<'static, _> = match inner.watch_error.clone() {
            Some(error) => stream::iter([Err(error)]).boxed(),
            None => {
                let (sender, receiver) = mpsc::unbounded_channel();
                inner.watch = Some(sender);
                let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
                let poisoned = |change: &Result<Change<u64>, Error>| {
                    let poison = change.as_ref().err().map(|error| error.message() == POISON);
                    assert_ne!(poison, Some(true), "a bug in a stream, on purpose");
                };
                stream.inspect(poisoned).boxed()
            }
        };
        stream
    }

    fn is_polled(&self) -> bool {
        self.inner.lock().unwrap().polled
    }

    fn describe(&self, service: &ServiceName) -> String {
        format!("a fake, keys below {service}/")
    }
}

impl fmt::Debug for FakeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeSource")
    }
}

/// An error that the stream panics at.
pub(crate) const POISON: &str = "poison";

pub(crate) fn greeter() -> ServiceName {
    ServiceName::new("greeter").unwrap()
}

pub(crate) fn reflect(source: &Arc<FakeSource>) -> Reflector {
    reflect_with(source, ReflectorConfig::default())
}

pub(crate) fn reflect_with(source: &Arc<FakeSource>, config: ReflectorConfig) -> Reflector {
    Reflector::spawn(source.clone(), greeter(), config.with_seed(7)).unwrap()
}

pub(crate) fn entries(addresses: &[&str]) -> Vec<Entry> {
    addresses.iter().map(|address| entry(address, address)).collect()
}

pub(crate) fn entry(key: &str, address: &str) -> Entry {
    Entry::new(key, Ok(instance(address)))
}

pub(crate) fn unreadable(key: &str, why: &'static str) -> Entry {
    Entry::new(key, Err(Error::invalid_data(why)))
}

pub(crate) fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused")
}

pub(crate) fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.instances.iter().map(|instance| instance.id().as_str()).collect()
}

pub(crate) fn is_fresh(snapshot: &Snapshot) -> bool {
    matches!(snapshot.freshness, Freshness::Fresh)
}
