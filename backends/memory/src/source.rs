//! Reading: list, and watch from where the list stood.

use std::sync::Arc;

use fleetward_core::discovery::{Change, Listing, Source};
use fleetward_core::{Error, ErrorKind, ServiceName};
use futures::{Stream, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::{MemoryRegistry, SharedTable};

/// Where in a table's history a list stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryCursor(u64);

impl Source for MemoryRegistry {
    type Cursor = MemoryCursor;

    async fn list(&self, service: &ServiceName) -> Result<Listing<MemoryCursor>, Error> {
        let (entries, revision) = self.shared.table().list(service, Instant::now());
        Ok(Listing::new(entries, MemoryCursor(revision)))
    }

    fn watch(
        &self,
        service: &ServiceName,
        from: MemoryCursor,
    ) -> impl Stream<Item = Result<Change<MemoryCursor>, Error>> + Send {
        let watching = Watching {
            news: self.shared.news.subscribe(),
            shared: self.shared.clone(),
            service: service.clone(),
            cursor: from.0,
        };
        // An error is the last item.
        stream::unfold(Some(watching), |watching| async {
            let mut watching = watching?;
            match watching.next().await {
                Ok(change) => Some((Ok(change), Some(watching))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    fn describe(&self, _: &ServiceName) -> String {
        "the memory of this process".to_owned()
    }
}

struct Watching {
    shared: Arc<SharedTable>,
    news: watch::Receiver<()>,
    service: ServiceName,
    cursor: u64,
}

impl Watching {
    async fn next(&mut self) -> Result<Change<MemoryCursor>, Error> {
        loop {
            // Marked seen before the table is read: what is written after that wakes us.
            self.news.mark_unchanged();
            let read = self.shared.table().since(&self.service, self.cursor, Instant::now());
            let Some(news) = read else { return Err(self.cursor_lost()) };
            self.cursor = news.revision;
            if !news.changes.is_empty() {
                let cursor = MemoryCursor(news.revision);
                return Ok(Change::Keys { changes: news.changes, cursor });
            }
            let expiry = news.next_expiry;
            tokio::select! {
                // The sender cannot be gone: we hold what holds it.
                _ = self.news.changed() => {}
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {}
            }
        }
    }

    fn cursor_lost(&self) -> Error {
        Error::new(ErrorKind::CursorLost, "changes after the cursor are not remembered any more")
            .with_operation("watch")
            .with_context("service", &self.service)
    }
}
