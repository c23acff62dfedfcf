//! The balancers of others, as their users call them.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::executor::block_on;
use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::{
    BackendIter, BackendSelection, Consistent, Random, RoundRobin,
};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use tokio::runtime::Runtime;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower_service::Service;
use volo::context::Endpoint;
use volo::discovery::WeightedStaticDiscover;
use volo::loadbalance::LoadBalance;
use volo::loadbalance::random::WeightedRandomBalance;

use super::subject::{Subject, with_workers};
use crate::calls::Calls;
use crate::error::Result;
use crate::measure::Contender;
use crate::members::{Weights, instance, is_unhealthy};
use crate::noop::NoOp;

/// All of them over so many instances.
pub(crate) fn all(size: usize, unhealthy: usize) -> Result<Vec<Box<dyn Subject>>> {
    let mut all: Vec<Box<dyn Subject>> = Vec::new();
    if size < PINGORA_MAX {
        let (turn, random) = ("pingora RoundRobin", "pingora Random");
        all.push(Box::new(Pingora::<RoundRobin>::new(turn, "round_robin", size, unhealthy)?));
        all.push(Box::new(Pingora::<Random>::new(random, "random", size, unhealthy)?));
    }
    all.push(Box::new(Pingora::<Consistent>::new("pingora ketama", "ring_hash", size, unhealthy)?));
    all.push(Box::new(Volo::new(size, unhealthy)?));
    all.push(Box::new(Tower { size, unhealthy }));
    all.push(Box::new(Buffered::new(1, size, unhealthy)?));
    all.push(Box::new(Buffered::new(16, size, unhealthy)?));
    Ok(all)
}

/// It panics on so many.
pub(crate) const PINGORA_MAX: usize = u16::MAX as usize + 1;

/// Addresses, of those that are there and whether they can take a call.
fn addresses(
    size: usize,
    unhealthy: usize,
    weights: Weights,
) -> Result<Vec<(SocketAddr, u32, bool)>> {
    let at = |i| {
        let instance = instance(i, weights)?;
        Ok((
            instance.address().to_string().parse()?,
            instance.weight(),
            !is_unhealthy(i, unhealthy),
        ))
    };
    (0..size).map(at).collect()
}

/// Unhealthy backends have their flag off, as after a failed health check.
struct Pingora<S: BackendSelection> {
    name: &'static str,
    beside: &'static str,
    balancer: LoadBalancer<S>,
}

impl<S> Pingora<S>
where
    S: BackendSelection + 'static,
    S::Iter: BackendIter,
{
    fn new(
        name: &'static str,
        beside: &'static str,
        size: usize,
        unhealthy: usize,
    ) -> Result<Self> {
        let (mut all, mut down) = (BTreeSet::new(), Vec::new());
        for (address, _, is_healthy) in addresses(size, unhealthy, Weights::Even)? {
            let backend = Backend::new(&address.to_string()).map_err(|error| error.to_string())?;
            down.extend((!is_healthy).then(|| backend.clone()));
            all.insert(backend);
        }
        let balancer = LoadBalancer::from_backends(Backends::new(Static::new(all)));
        block_on(balancer.update()).map_err(|error| error.to_string())?;
        for backend in &down {
            balancer.backends().set_enable(backend, false);
        }
        Ok(Self { name, beside, balancer })
    }
}

impl<S> Subject for Pingora<S>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
    S::Config: Send + Sync,
{
    fn name(&self) -> &str {
        self.name
    }

    fn beside(&self) -> Option<&str> {
        Some(self.beside)
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        with_workers(self.name(), threads, || {
            Box::new(|times| {
                for key in 0..times {
                    // The number of tries that its documentation uses.
                    black_box(self.balancer.select(&key.to_le_bytes(), 256));
                }
            })
        })
    }
}

/// It knows of no health: unhealthy instances are not in its list.
struct Volo {
    balancer: WeightedRandomBalance<()>,
    list: WeightedStaticDiscover,
    endpoint: Endpoint,
}

impl Volo {
    fn new(size: usize, unhealthy: usize) -> Result<Self> {
        let all = addresses(size, unhealthy, Weights::Zipf)?.into_iter();
        let ready: Vec<_> = all.filter(|one| one.2).map(|one| (one.0, one.1)).collect();
        let list = WeightedStaticDiscover::from(ready);
        let balancer = WeightedRandomBalance::with_discover(&list);
        Ok(Self { balancer, list, endpoint: Endpoint::new("measured".into()) })
    }
}

impl Subject for Volo {
    fn name(&self) -> &'static str {
        "volo WeightedRandomBalance, zipf"
    }

    fn beside(&self) -> Option<&str> {
        Some("weighted_random, zipf")
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        with_workers(self.name(), threads, || {
            Box::new(|times| {
                for _ in 0..times {
                    let picker =
                        self.balancer.get_picker(&self.endpoint, &self.list).now_or_never();
                    black_box(
                        picker
                            .and_then(std::result::Result::ok)
                            .and_then(|mut picker| picker.next()),
                    );
                }
            })
        })
    }
}

pub(crate) type Measured = PeakEwma<NoOp>;
pub(crate) type P2c = Balance<ServiceList<std::vec::IntoIter<Measured>>, u64>;

/// With tower's Peak EWMA of it.
pub(crate) fn tower_measured(service: NoOp) -> Measured {
    let (rtt, decay) = (Duration::from_millis(30), 10e9);
    PeakEwma::new(service, rtt, decay, CompleteOnResponse::default())
}

/// Power of two choices by Peak EWMA over services that do nothing; unhealthy ones are not ready.
pub(crate) fn tower_p2c(size: usize, unhealthy: usize) -> P2c {
    let services = (0..size).map(|i| tower_measured(NoOp::new(!is_unhealthy(i, unhealthy))));
    Balance::new(ServiceList::new(services.collect::<Vec<_>>().into_iter()))
}

/// One owner, which calls by `&mut`; a thread more has a balancer more.
struct Tower {
    size: usize,
    unhealthy: usize,
}

impl Subject for Tower {
    fn name(&self) -> &'static str {
        "tower p2c of a thread's own, a call"
    }

    fn beside(&self) -> Option<&str> {
        Some("`Balanced::pick`, peak_ewma")
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        with_workers(self.name(), threads, || {
            let mut balance = tower_p2c(self.size, self.unhealthy);
            Box::new(move |times| {
                block_on(Calls::new(&mut balance, times));
            })
        })
    }
}

type Shared = Buffer<u64, <P2c as Service<u64>>::Future>;

/// Shared by tasks, as tonic's `balance_channel` does it.
struct Buffered {
    name: String,
    tasks: u64,
    /// One that runs tasks on the caller's thread, and one with two threads.
    sides: [(Mutex<Runtime>, Shared); 2],
}

impl Buffered {
    fn new(tasks: u64, size: usize, unhealthy: usize) -> Result<Self> {
        let side = |runtime: Runtime| {
            let inside = runtime.enter();
            let buffer = Buffer::new(tower_p2c(size, unhealthy), 1024);
            drop(inside);
            (Mutex::new(runtime), buffer)
        };
        let alone = tokio::runtime::Builder::new_current_thread().build()?;
        let both = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
        let name =
            format!("tower p2c behind Buffer, {tasks} tasks, a call").replace("1 tasks", "1 task");
        Ok(Self { name, tasks, sides: [side(alone), side(both)] })
    }
}

impl Subject for Buffered {
    fn name(&self) -> &str {
        &self.name
    }

    fn beside(&self) -> Option<&str> {
        Some("`Balanced::pick`, peak_ewma")
    }

    fn contender(&self, threads: usize) -> Contender<'_> {
        let side = usize::from(threads > 1);
        Contender::elsewhere(self.name(), 1, move |times| self.calls(side, times))
    }
}

impl Buffered {
    fn calls(&self, side: usize, times: u64) -> Duration {
        let (runtime, buffer) = &self.sides[side];
        let runtime = runtime.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runtime.block_on(async {
            let each = times.div_ceil(self.tasks);
            let start = Instant::now();
            let tasks = (0..self.tasks).map(|_| tokio::spawn(Calls::new(buffer.clone(), each)));
            futures::future::join_all(tasks).await;
            start.elapsed()
        })
    }
}
