//! Learns at once when the key of a registration is deleted or overwritten.
//!
//! All keys of a registry's registrations are watched on one stream, by one task that lives as long
//! as somebody waits for one of them. It says only "look": what happened is found out by the
//! renewal that follows, so a false alarm does no harm, and what the stream misses while it is
//! broken costs no more than the next renewal in time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetward_core::backoff::{Backoff, BackoffState};
use fleetward_core::{Error, ErrorKind};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::client::{Client, Event, Requests, Response, Watch, Watched};

/// The keys that are watched.
#[derive(Debug, Default)]
pub(crate) struct OwnKeys {
    table: Mutex<Table>,
    /// There is something to do for the task.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Table {
    last_id: i64,
    keys: HashMap<i64, Own>,
    /// The number of the task, if there is one.
    running: Option<u64>,
    tasks: u64,
    todo: VecDeque<Todo>,
}

#[derive(Debug)]
struct Own {
    key: String,
    lease: i64,
    /// The first revision that is not known.
    revision: i64,
    /// etcd does not let us watch it.
    denied: bool,
    /// Tells the owner to look.
    look: Arc<Notify>,
}

#[derive(Clone, Copy, Debug)]
enum Todo {
    Begin(i64),
    End(i64),
}

/// A key in the table, for as long as this lives.
#[derive(Debug)]
pub(super) struct Guard {
    keys: Arc<OwnKeys>,
    id: i64,
    look: Arc<Notify>,
}

impl Guard {
    /// Waits until there is reason to look at the key. Reasons of the time before are not lost.
    pub(super) async fn reason_to_look(&self, client: &Client) {
        OwnKeys::run(&self.keys, client);
        self.look.notified().await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut table = self.keys.table();
        table.keys.remove(&self.id);
        table.todo.push_back(Todo::End(self.id));
        if table.running.is_none() {
            table.todo.clear();
        }
        drop(table);
        self.keys.wake.notify_one();
    }
}

impl OwnKeys {
    /// Watches `key` for everything after `revision` that the lease did not do.
    pub(super) fn guard(self: &Arc<Self>, key: &str, lease: i64, revision: i64) -> Guard {
        let look = Arc::new(Notify::new());
        let (key, revision, denied) = (key.to_owned(), revision + 1, false);
        let own = Own { key, lease, revision, denied, look: look.clone() };
        let mut table = self.table();
        table.last_id += 1;
        let id = table.last_id;
        table.keys.insert(id, own);
        table.todo.push_back(Todo::Begin(id));
        drop(table);
        self.wake.notify_one();
        Guard { keys: self.clone(), id, look }
    }

    /// Sees to it that there is a task.
    fn run(keys: &Arc<Self>, client: &Client) {
        let mut table = keys.table();
        if table.running.is_none() {
            table.tasks += 1;
            table.running = Some(table.tasks);
            let running = Running { keys: keys.clone(), task: table.tasks };
            drop(table);
            tokio::spawn(follow(running, client.clone()));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// A stream begins: every key is to be watched on it.
    fn start_over(&mut self) {
        let allowed = self.keys.iter().filter(|(_, own)| !own.denied);
        self.todo = allowed.map(|(id, _)| Todo::Begin(*id)).collect();
    }

    /// What to ask of etcd next, if anything.
    fn next(&mut self) -> Option<Request> {
        loop {
            let request = match *self.todo.front()? {
                Todo::Begin(id) => self.watched(id).map(Request::Begin),
                Todo::End(id) => Some(Request::End(id)),
            };
            if request.is_some() {
                return request;
            }
            // The owner was quicker.
            self.todo.pop_front();
        }
    }

    fn watched(&self, id: i64) -> Option<Watched> {
        let own = self.keys.get(&id)?;
        let (from, revision) = (own.key.clone().into_bytes(), own.revision);
        Some(Watched { id, from, end: Vec::new(), revision })
    }

    /// Takes in what etcd says of one watch, and gives the owner who is to be told to look, if any.
    fn take_in(&mut self, id: i64, response: &Response) -> Option<Arc<Notify>> {
        let own = self.keys.get_mut(&id)?;
        let foreign = response.events.iter().any(|event| match event {
            Event::Put(found, _) => found.lease != own.lease,
            Event::Delete(..) => true,
        });
        let newest = response.events.iter().map(Event::revision).max();
        own.revision = own.revision.max(newest.map_or(0, |newest| newest + 1));
        let compacted = response.compact_revision != 0;
        if compacted {
            own.revision = own.revision.max(response.compact_revision);
            self.todo.push_back(Todo::Begin(id));
        }
        // An etcd that was restored is silent about what it does not know.
        let older = response.created && response.revision + 1 < own.revision;
        (foreign || compacted || older).then(|| own.look.clone())
    }
}

enum Request {
    Begin(Watched),
    End(i64),
}

/// Ends with the task, however that ends.
struct Running {
    keys: Arc<OwnKeys>,
    task: u64,
}

impl Running {
    /// The task ends if nothing is left to watch; looked at and said in one step, so that who comes
    /// next starts another one.
    fn is_over(&self, table: &mut Table) -> bool {
        let over = table.keys.values().all(|own| own.denied);
        if over {
            table.running = None;
            table.todo.clear();
        }
        over
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.keys.table();
        if table.running == Some(self.task) {
            table.running = None;
        }
    }
}

/// Runs until nobody waits any more.
async fn follow(running: Running, client: Client) {
    let mut backoff = BackoffState::new(Backoff::default(), fastrand::Rng::new());
    while let Err(error) = one_stream(&running, &client).await {
        tracing::debug!(%error, "own keys are not watched for a moment");
        sleep(backoff.next_delay()).await;
    }
}

/// Watches all keys on one stream. Gives nothing once there is no key any more.
async fn one_stream(running: &Running, client: &Client) -> Result<(), Error> {
    let keys = &*running.keys;
    let first = {
        let mut table = keys.table();
        table.start_over();
        match table.next() {
            Some(Request::Begin(first)) if !running.is_over(&mut table) => first,
            _ => {
                running.is_over(&mut table);
                return Ok(());
            }
        }
    };
    let opened = client.watch(&first).await;
    let (mut watch, response) = opened.inspect_err(|error| keys.note_denial(first.id, error))?;
    keys.table().todo.pop_front();
    keys.take_in(first.id, &response);
    let Some(mut requests) = watch.requests() else { return Ok(()) };
    // etcd answers in the order of the requests, and does not say which one it refuses.
    let mut begun = VecDeque::new();
    loop {
        let next = {
            let mut table = keys.table();
            if running.is_over(&mut table) {
                return Ok(());
            }
            table.next()
        };
        tokio::select! {
            response = watch.next() => keys.heard(&mut begun, &watch, &response?)?,
            sent = send(&mut requests, next.as_ref()), if next.is_some() => {
                sent?;
                keys.table().todo.pop_front();
                begun.extend(next.and_then(|request| match request {
                    Request::Begin(watched) => Some(watched.id),
                    Request::End(_) => None,
                }));
            }
            () = keys.wake.notified(), if next.is_none() => {}
        }
    }
}

async fn send(requests: &mut Requests, request: Option<&Request>) -> Result<(), Error> {
    match request {
        Some(Request::Begin(watched)) => requests.begin(watched).await,
        Some(Request::End(id)) => requests.end(*id).await,
        None => Ok(()),
    }
}

impl OwnKeys {
    fn heard(
        &self,
        begun: &mut VecDeque<i64>,
        watch: &Watch,
        response: &Response,
    ) -> Result<(), Error> {
        let id = match response.created {
            true => begun.pop_front().unwrap_or(response.watch),
            false => response.watch,
        };
        if let Some(reason) = &response.canceled
            && response.compact_revision == 0
        {
            // What was ended by us is not in the table any more.
            if !self.table().keys.contains_key(&id) {
                return Ok(());
            }
            let error = watch.refused(reason);
            self.note_denial(id, &error);
            return Err(error);
        }
        self.take_in(id, response);
        Ok(())
    }

    /// The owner is told when the table is free again.
    fn take_in(&self, id: i64, response: &Response) {
        let owner = self.table().take_in(id, response);
        if let Some(owner) = owner {
            owner.notify_one();
        }
    }

    fn note_denial(&self, id: i64, error: &Error) {
        if error.kind() == ErrorKind::PermissionDenied
            && let Some(own) = self.table().keys.get_mut(&id)
        {
            own.denied = true;
        }
    }
}
