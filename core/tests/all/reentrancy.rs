//! Somebody else's code runs under none of our locks: whatever it comes back for, it gets on.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::discovery::{InstancerExt, Publisher};
use fleetward_core::endpoints::Readiness;
use fleetward_core::registration::Status;
use fleetward_core::{
    Balanced, Balancer, DefaultEndpointer, Endpointer, Error, ErrorKind, Instance, Instancer,
    Subscription,
};
use tokio::runtime::Builder;

use crate::fake_registry::{FakeRegistry, register};
use crate::support::{instance, instances};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// Does the work on a thread of its own: one that freezes fails.
fn finishes(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    finished.recv_timeout(Duration::from_secs(60)).expect("it is frozen, or has panicked");
}

fn blocking<F: Future>(work: impl FnOnce() -> F + Send + 'static) {
    finishes(move || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(work());
    });
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// Runs a hook when it prepares, and another when it is dropped.
#[derive(Default)]
struct Hooked {
    prepares: OnceLock<Hook>,
    drops: OnceLock<Hook>,
}

impl Balancer for Hooked {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(0)
    }

    fn prepare(&self, set: &ReadySet<'_>) -> Option<Prepared> {
        if let Some(hook) = self.prepares.get() {
            hook();
        }
        Some(Box::new(set.len()))
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        if let Some(hook) = self.drops.get() {
            hook();
        }
    }
}

fn endpoints(list: &Publisher) -> DefaultEndpointer<String> {
    list.publish(instances(&[A]));
    DefaultEndpointer::new(list.clone(), |instance: Arc<Instance>| async move {
        Ok::<_, Error>(instance.id().to_string())
    })
}

async fn moves_on(list: &Publisher, endpointer: &DefaultEndpointer<String>) {
    for addresses in [&[A, B][..], &[B], &[A, B]] {
        list.publish(instances(addresses));
        endpointer.endpoints().wait_for(|set| set.ready().len() == addresses.len()).await;
    }
}

#[test]
fn a_balancer_that_attaches_others_while_it_prepares_gets_on() {
    blocking(|| async {
        let list = Publisher::new("s");
        let endpointer = endpoints(&list);
        let balancer = Arc::new(Hooked::default());
        let (again, kept) = (endpointer.clone(), Mutex::new(None));
        let hook = move || {
            let other = Balanced::new(again.clone(), Hooked::default());
            assert!(other.endpoints().load().known() <= 2);
            drop(Balanced::new(again.clone(), Hooked::default()));
            let before = kept.lock().unwrap().replace(other);
            drop(before);
        };
        balancer.prepares.set(Box::new(hook)).ok().unwrap();
        let balanced = Balanced::new(endpointer.clone(), balancer);
        moves_on(&list, &endpointer).await;
        assert!(balanced.pick(&()).is_some());
    });
}

#[test]
fn a_balancer_that_waits_for_a_thread_which_attaches_gets_on() {
    blocking(|| async {
        let list = Publisher::new("s");
        let endpointer = endpoints(&list);
        let balancer = Arc::new(Hooked::default());
        let again = endpointer.clone();
        let hook = move || {
            let again = again.clone();
            let other = thread::spawn(move || drop(Balanced::new(again, Hooked::default())));
            other.join().unwrap();
        };
        balancer.prepares.set(Box::new(hook)).ok().unwrap();
        let balanced = Balanced::new(endpointer.clone(), balancer);
        moves_on(&list, &endpointer).await;
        assert!(balanced.pick(&()).is_some());
    });
}

/// Without end: each one that is attached attaches the next.
#[test]
fn balancers_that_attach_one_another_for_ever_do_not_stop_the_set() {
    fn next(endpointer: &DefaultEndpointer<String>, all: &Arc<Mutex<Vec<Balanced<String>>>>) {
        let balancer = Arc::new(Hooked::default());
        let (again, others) = (endpointer.clone(), all.clone());
        let hook = move || next(&again, &others);
        balancer.prepares.set(Box::new(hook)).ok().unwrap();
        let balanced = Balanced::new(endpointer.clone(), balancer);
        let mut all = all.lock().unwrap();
        all.push(balanced);
        let surplus = all.len().saturating_sub(3);
        let left: Vec<_> = all.drain(..surplus).collect();
        drop(all);
        drop(left);
    }
    blocking(|| async {
        let list = Publisher::new("s");
        let endpointer = endpoints(&list);
        let all = Arc::default();
        next(&endpointer, &all);
        moves_on(&list, &endpointer).await;
        list.publish([]);
    });
}

#[test]
fn a_balancer_that_comes_back_when_it_is_dropped_gets_on() {
    blocking(|| async {
        let list = Publisher::new("s");
        let endpointer = endpoints(&list);
        for _ in 0..20 {
            let balancer = Arc::new(Hooked::default());
            let again = endpointer.clone();
            let comes_back = move || drop(Balanced::new(again.clone(), Hooked::default()));
            balancer.drops.set(Box::new(comes_back)).ok().unwrap();
            // The endpointer's own is the last hold on it: the other one goes while it prepares.
            let held = Arc::new(Mutex::new(None));
            let holder = held.clone();
            let lets_go = move || drop(holder.lock().unwrap().take());
            balancer.prepares.set(Box::new(lets_go)).ok().unwrap();
            let balanced = Balanced::new(endpointer.clone(), balancer);
            *held.lock().unwrap() = Some(balanced);
            moves_on(&list, &endpointer).await;
        }
    });
}

/// What a balancer has prepared is dropped with the set.
#[test]
fn what_was_prepared_may_come_back_when_it_is_dropped() {
    struct Back(DefaultEndpointer<String>);
    impl Drop for Back {
        fn drop(&mut self) {
            drop(Balanced::new(self.0.clone(), Hooked::default()));
        }
    }
    struct Makes(DefaultEndpointer<String>);
    impl fmt::Debug for Makes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Makes")
        }
    }
    impl Balancer for Makes {
        fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
            Some(0)
        }
        fn prepare(&self, _: &ReadySet<'_>) -> Option<Prepared> {
            Some(Box::new(Back(self.0.clone())))
        }
    }
    blocking(|| async {
        let list = Publisher::new("s");
        let endpointer = endpoints(&list);
        let balanced = Balanced::new(endpointer.clone(), Makes(endpointer.clone()));
        moves_on(&list, &endpointer).await;
        assert!(balanced.pick(&()).is_some());
    });
}

#[test]
fn a_view_may_read_and_subscribe_through_itself() {
    finishes(|| {
        let list = Publisher::new("s");
        let place: Arc<OnceLock<(Arc<dyn Instancer>, Subscription)>> = Arc::default();
        let itself = place.clone();
        let view = list.clone().view(move |all: &[Arc<Instance>]| {
            if let Some((view, subscription)) = itself.get() {
                let seen = subscription.current().instances.len();
                assert_eq!(view.subscribe().current().instances.len(), seen, "its last choice");
                assert!(seen < all.len());
            }
            all.to_vec()
        });
        let view: Arc<dyn Instancer> = Arc::new(view);
        let subscription = view.subscribe();
        place.set((view, subscription.clone())).ok().unwrap();
        for n in 1..5 {
            list.publish((1..=n).map(|n| instance(&format!("10.0.0.{n}:80"))));
            assert_eq!(subscription.current().instances.len(), n);
        }
    });
}

#[test]
fn a_view_may_wait_for_a_thread_that_reads_through_it() {
    finishes(|| {
        let list = Publisher::new("s");
        list.publish(instances(&[A]));
        let place: Arc<OnceLock<Subscription>> = Arc::default();
        let (reader, first) = (place.clone(), AtomicBool::new(true));
        let view = list.clone().view(move |all: &[Arc<Instance>]| {
            let reader = reader.get().cloned().filter(|_| first.swap(false, Ordering::Relaxed));
            if let Some(reader) = reader {
                thread::spawn(move || drop(reader.current())).join().unwrap();
            }
            all.to_vec()
        });
        let subscription = view.subscribe();
        place.set(subscription.clone()).ok().unwrap();
        list.publish(instances(&[A, B]));
        assert_eq!(subscription.current().instances.len(), 2);
    });
}

/// The source of an error, which runs a hook when it is dropped.
struct Last(Hook);

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Last")
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the last")
    }
}

impl std::error::Error for Last {}

impl Drop for Last {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn with_last(hook: impl Fn() + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "down").with_source(Last(Box::new(hook)))
}

#[test]
fn an_error_that_is_replaced_may_come_back_to_where_it_stood() {
    finishes(|| {
        let list = Publisher::new("s");
        let again = list.clone();
        list.publish_stale(with_last(move || again.publish(instances(&[A, B]))));
        list.publish(instances(&[A]));
        assert_eq!(list.current().instances.len(), 2);

        let readiness = Readiness::detached(&instance(A));
        let again = readiness.clone();
        readiness.set_failed(with_last(move || {
            again.set_failed(Error::new(ErrorKind::Unavailable, "down"));
        }));
        readiness.set_ready();

        let health = readiness.health();
        let again = health.clone();
        health.unhealthy(with_last(move || again.unhealthy(Error::timeout("too long"))));
        health.healthy();
    });
}

#[test]
fn an_error_of_a_registration_may_come_back_to_its_status() {
    blocking(|| async {
        let registry = FakeRegistry::new();
        let registration = Arc::new(register(&registry).await.unwrap());
        let (again, came) = (registration.clone(), Arc::new(AtomicBool::new(false)));
        let back = came.clone();
        registry.fail_register(Some(with_last(move || {
            let _ = again.status();
            back.store(true, Ordering::Relaxed);
        })));
        registry.lose();
        let mut status = registration.watch_status();
        let refused =
            |status: &Status| status.error().is_some_and(|e| e.kind() == ErrorKind::Unavailable);
        status.wait_for(refused).await.unwrap();
        registry.fail_register(None);
        status.wait_for(Status::is_registered).await.unwrap();
        while !came.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn who_waits_for_a_status_may_wait_for_the_next_one_meanwhile() {
    blocking(|| async {
        let registry = FakeRegistry::new();
        let registration = Arc::new(register(&registry).await.unwrap());
        let (same, lost) = (registration.clone(), registry.clone());
        let waiting = tokio::spawn(async move {
            let mut first = true;
            let condition = |status: &Status| {
                if std::mem::replace(&mut first, false) {
                    lost.fail_register(Some(Error::timeout("too long")));
                    lost.lose();
                    while !same.status().is_retrying() {
                        thread::yield_now();
                    }
                    lost.fail_register(None);
                }
                status.is_retrying()
            };
            same.watch_status().wait_for(condition).await.map(drop)
        });
        let _ = waiting.await.unwrap();
    });
}
