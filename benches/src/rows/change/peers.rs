//! pingora and tower.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::executor::block_on;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use tower::balance::p2c::Balance;
use tower::discover;
use tower_service::Service;

use super::ours::ROUND_ROBIN;
use super::subject::{Change, Sample, Subject, measured};
use crate::error::Result;
use crate::members::{Weights, instance};
use crate::noop::NoOp;
use crate::rows::pick::{Measured, PINGORA_MAX, tower_measured};

pub(crate) const PINGORA: &str = "pingora RoundRobin, `update`";
const TOWER: &str = "tower p2c, its one owner polls it";

/// All that bear so many.
pub(crate) fn all(size: u32) -> Result<Vec<Box<dyn Subject>>> {
    let mut all: Vec<Box<dyn Subject>> = vec![Box::new(Tower::new(size)?)];
    if (size as usize) < PINGORA_MAX {
        all.push(Box::new(Pingora::new(size)?));
    }
    Ok(all)
}

/// The registry's list. Discovery copies it, as pingora's own does.
type List = Arc<ArcSwap<BTreeSet<Backend>>>;

struct Discovery(List);

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> pingora_error::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((BTreeSet::clone(&self.0.load()), HashMap::new()))
    }
}

/// Told to update as soon as the list has changed, where its users do that by a clock.
pub(crate) struct Pingora {
    list: List,
    balancer: LoadBalancer<RoundRobin>,
    middle: String,
    weight: usize,
}

impl Pingora {
    pub(crate) fn new(size: u32) -> Result<Self> {
        let mut all = BTreeSet::new();
        for position in 0..size as usize {
            all.insert(backend(&address(position)?, 1)?);
        }
        let list: List = Arc::new(ArcSwap::from_pointee(all));
        let backends = Backends::new(Box::new(Discovery(list.clone())));
        let balancer = LoadBalancer::from_backends(backends);
        let middle = address(size as usize / 2)?;
        let pingora = Self { list, balancer, middle, weight: 1 };
        pingora.update()?;
        Ok(pingora)
    }

    /// Without the registry's list, which its balancer does not need between two updates.
    pub(crate) fn without_list(self) -> LoadBalancer<RoundRobin> {
        self.list.store(Arc::default());
        self.balancer
    }

    fn update(&self) -> Result<()> {
        Ok(block_on(self.balancer.update()).map_err(|error| error.to_string())?)
    }
}

fn backend(address: &str, weight: usize) -> Result<Backend> {
    Ok(Backend::new_with_weight(address, weight).map_err(|error| error.to_string())?)
}

fn address(position: usize) -> Result<String> {
    Ok(instance(position, Weights::Even)?.address().to_string())
}

impl Subject for Pingora {
    fn name(&self) -> &'static str {
        PINGORA
    }

    fn beside(&self) -> Option<&'static str> {
        Some(ROUND_ROBIN)
    }

    fn change(&mut self, change: Change, round: u32) -> Result<Option<Sample>> {
        let mut list = BTreeSet::clone(&self.list.load());
        list.remove(&backend(&self.middle, self.weight)?);
        if change != Change::Removed {
            self.weight = 2 + round as usize;
            list.insert(backend(&self.middle, self.weight)?);
        }
        let expected = list.len();
        self.list.store(Arc::new(list));
        let sample = measured(|| {
            let begun = Instant::now();
            self.update()?;
            Ok(begun.elapsed())
        });
        let known = self.balancer.backends().get_backend();
        let is_there = known.contains(&backend(&self.middle, self.weight)?);
        if known.len() != expected || is_there == (change == Change::Removed) {
            return Err("pingora has not seen the change".into());
        }
        sample
    }
}

type Word = std::result::Result<discover::Change<u32, Measured>, Infallible>;

/// It sees changes when its owner asks it whether it is ready, as before each call.
pub(crate) struct Tower {
    registry: UnboundedSender<Word>,
    balance: Balance<UnboundedReceiver<Word>, u64>,
    size: u32,
}

impl Tower {
    pub(crate) fn new(size: u32) -> Result<Self> {
        let (registry, words) = unbounded();
        let mut tower = Self { registry, balance: Balance::new(words), size };
        for key in 0..size {
            tower.insert(key)?;
        }
        tower.ready()?;
        Ok(tower)
    }

    fn insert(&self, key: u32) -> Result<()> {
        let service = tower_measured(NoOp::new(true));
        Ok(self.registry.unbounded_send(Ok(discover::Change::Insert(key, service)))?)
    }

    fn ready(&mut self) -> Result<()> {
        block_on(poll_fn(|cx| self.balance.poll_ready(cx)))
    }

    fn told(&mut self, change: Change) -> Result<Duration> {
        let (middle, begun) = (self.size / 2, Instant::now());
        match change {
            Change::Removed => {
                self.registry.unbounded_send(Ok(discover::Change::Remove(middle)))?;
            }
            Change::Reweighted | Change::Added => self.insert(middle)?,
        }
        self.ready()?;
        Ok(begun.elapsed())
    }
}

impl Subject for Tower {
    fn name(&self) -> &'static str {
        TOWER
    }

    fn beside(&self) -> Option<&'static str> {
        Some(ROUND_ROBIN)
    }

    fn change(&mut self, change: Change, _: u32) -> Result<Option<Sample>> {
        // It knows of no weights.
        if change == Change::Reweighted {
            return Ok(None);
        }
        let sample = measured(|| self.told(change));
        let expected = self.size - u32::from(change == Change::Removed);
        if self.balance.len() != expected as usize {
            return Err("tower has not seen the change".into());
        }
        sample
    }
}
