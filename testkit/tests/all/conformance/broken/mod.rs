//! The embedded registry, broken in one of many ways.

mod registry;
mod source;
mod subject;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_core::{Error, ErrorKind, ServiceName};
use fleetward_memory::{MemoryCursor, MemoryRegistry};
use tokio::sync::watch;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// `foo` has the instances of `foobar` too.
    LeaksSiblings,
    NeverTellsDeletes,
    ForgetsMetadata,
    ForgetsWeights,
    ListsFirstPageOnly,
    /// What happened between the list and the watch is not told.
    WatchesFromNow,
    ListFailsWhenEmpty,
    /// Deregistering goes by the key alone.
    RemovesSuccessors,
    /// Says that the lease lives, and does nothing for it.
    ForgetsToRenew,
    /// Says that the lease lives, whatever the registry says.
    NeverNoticesLoss,
    NeverTellsLoss,
    NewKeyEachTime,
    LeasesForEver,
    GoneIsAnError,
    /// Writes for ever, and gives it a time to live after that.
    RegistersInTwoSteps,
    DeregistersNothing,
    /// A list that is dropped half way leaves a lock behind.
    StaysLockedWhenDropped,
    OneBadValueFailsTheList,
    /// A watch that has ended says nothing any more, not even that.
    HangsWhenKilled,
    OutageLooksLikeDeletes,
    ListsAKeyTwice,
    TellsAChangeTwice,
    /// The same, in two messages.
    RepeatsAMessage,
    /// The cursor of a change is that from before it.
    CursorGoesBack,
    /// Complete sets, and each time the first one once more.
    TellsOldSets,
}

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    table: MemoryRegistry,
    fault: Fault,
    locked: Arc<AtomicBool>,
    /// What was written by hand.
    raw: Arc<Mutex<Raw>>,
    server: watch::Sender<Server>,
}

type Raw = BTreeMap<(ServiceName, String), Vec<u8>>;

/// What the hooks do to the server that there is not. Each change ends all watches.
#[derive(Clone, Copy, Debug, Default)]
struct Server {
    stopped: bool,
    /// How many changes there were.
    age: u64,
}

/// After what a watch begins: a change of the table, and one by hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    table: MemoryCursor,
    age: u64,
}

impl Broken {
    /// Short where a wait ends by it; a machine that is busy must not look like a fault.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(if self.fault == Fault::None { 30 } else { 3 })
    }

    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            table: MemoryRegistry::new(),
            fault,
            locked: Arc::default(),
            raw: Arc::default(),
            server: watch::Sender::default(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn change(&self, change: impl FnOnce(&mut Server)) {
        self.server.send_modify(|server| {
            change(server);
            server.age += 1;
        });
    }

    fn answers(&self) -> Result<(), Error> {
        if self.server.borrow().stopped {
            return Err(Error::new(ErrorKind::Unavailable, "the server is stopped"));
        }
        Ok(())
    }
}
