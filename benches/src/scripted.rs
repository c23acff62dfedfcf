//! A client of a registry that says whatever the benchmark wants, when it wants it.

use std::sync::{Arc, Mutex, PoisonError};

use fleetward_core::discovery::{
    Change, Entry, KeyChange, Listing, Reflector, ReflectorConfig, Source,
};
use fleetward_core::endpoints::EndpointerBuilder;
use fleetward_core::{
    Balanced, Balancer, DefaultEndpointer, Endpointer, Error, Instance, ServiceName,
};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::Result;

/// What a factory makes here: there is nobody to call.
#[derive(Clone, Debug)]
pub(crate) struct Nobody;

/// A number of endpoints, and the line by which their registry speaks.
pub(crate) struct ScriptedClient {
    pub(crate) balanced: Balanced<Nobody>,
    registry: UnboundedSender<KeyChange>,
    _reflector: Reflector,
}

impl ScriptedClient {
    /// Stands when all of them can be picked.
    pub(crate) async fn new(size: u32, balancer: impl Balancer + 'static) -> Result<Self> {
        let (registry, changes) = unbounded_channel();
        let entries = (0..size).map(|n| put(n, 1)).collect::<Result<_>>()?;
        let source = Script { entries: Mutex::new(entries), changes: Mutex::new(Some(changes)) };
        let config = ReflectorConfig::default().with_max_instances(2 * size as usize);
        let reflector = Reflector::spawn(Arc::new(source), ServiceName::new("benchmark")?, config)?;
        let make = |_: Arc<Instance>| std::future::ready(Ok::<_, Error>(Nobody));
        let endpointer: DefaultEndpointer<Nobody> =
            EndpointerBuilder::default().max_concurrent(1024).build(reflector.clone(), make);
        endpointer.endpoints().wait_for(|set| set.ready().len() == size as usize).await;
        let balanced = Balanced::new(endpointer, balancer);
        Ok(Self { balanced, registry, _reflector: reflector })
    }

    /// The registry says that the `n`th instance is there, with this weight.
    pub(crate) fn put(&self, n: u32, weight: u32) -> Result<()> {
        Ok(self.registry.send(KeyChange::Put(put(n, weight)?))?)
    }

    /// The registry says that the `n`th instance is gone.
    pub(crate) fn delete(&self, n: u32) -> Result<()> {
        Ok(self.registry.send(KeyChange::Delete(key(n)))?)
    }
}

fn key(n: u32) -> Arc<str> {
    format!("services/benchmark/{}", address(n)).into()
}

pub(crate) fn address(n: u32) -> String {
    // Four digits a part, so that their order is that of the numbers.
    format!("10.{}.{}.{}:80", 100 + n / 10_000, 100 + n / 100 % 100, 100 + n % 100)
}

fn put(n: u32, weight: u32) -> Result<Entry> {
    let instance = Instance::new(address(n).as_str())?.with_weight(weight);
    Ok(Entry::new(key(n), Ok(instance)))
}

struct Script {
    /// Read once: nothing here makes a reflector list again.
    entries: Mutex<Vec<Entry>>,
    changes: Mutex<Option<UnboundedReceiver<KeyChange>>>,
}

impl Source for Script {
    type Cursor = ();

    async fn list(&self, _: &ServiceName) -> std::result::Result<Listing<()>, Error> {
        let entries =
            std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Listing::new(entries, ()))
    }

    fn watch(
        &self,
        _: &ServiceName,
        (): (),
    ) -> impl Stream<Item = std::result::Result<Change<()>, Error>> + Send {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let changes = stream::unfold(changes, |changes| async {
            let mut changes = changes?;
            let change = changes.recv().await?;
            Some((Ok(Change::Keys { changes: vec![change], cursor: () }), Some(changes)))
        });
        changes.chain(stream::pending())
    }
}
