//! Ending a registration: deregistered, dropped, or cut off at any await.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fleetward_core::registration::Status;
use fleetward_core::{Error, ErrorKind};
use tokio::time::{Instant, sleep};

use crate::fake_registry::{FakeRegistry, TTL, options, register, register_with};
use crate::support::settle;

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn deregistering_removes_the_entry_and_says_so() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    assert!(registry.is_held());
    registration.deregister().await.unwrap();
    assert!(!registry.is_held());
    assert!(registration.status().is_deregistered());
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_780_errors_of_the_registrar_are_reported() {
    let registry = FakeRegistry::new();
    registry.down(true);
    assert!(register(&registry).await.is_err());
    registry.down(false);
    let registration = register(&registry).await.unwrap();
    let mut status = registration.watch_status();
    registry.down(true);
    let retrying = status.wait_for(Status::is_retrying).await.unwrap();
    assert_eq!(retrying.error().unwrap().context("instance"), Some("10.0.0.1:80"));
    let error = registration.deregister().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("deregister: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn deregistering_twice_gives_the_same_result() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    registry.fail_deregister(Some(Error::new(ErrorKind::PermissionDenied, "read only")));
    let (one, two) = tokio::join!(registration.deregister(), registration.deregister());
    let three = registration.deregister().await;
    for result in [one, two, three] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    assert_eq!(registry.deregisters(), 1);
}

#[tokio::test(start_paused = true)]
async fn deregistering_from_a_silent_registry_ends_in_time() {
    let registry = FakeRegistry::new();
    let limit = Duration::from_secs(2);
    let registration =
        register_with(&registry, options().with_deregister_timeout(limit)).await.unwrap();
    registry.silent(true);
    let before = Instant::now();
    assert!(registration.deregister().await.unwrap_err().is_timeout());
    assert!(before.elapsed() <= limit + Duration::from_millis(2));
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_removes_the_entry_in_the_background() {
    let registry = FakeRegistry::new();
    registry.latency(Duration::from_millis(100));
    drop(register(&registry).await.unwrap());
    sleep(Duration::from_millis(200)).await;
    assert!(!registry.is_held());
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_while_the_registry_is_down_leaves_nothing_after_the_ttl() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    registry.down(true);
    drop(registration);
    sleep(TTL).await;
    registry.down(false);
    assert!(!registry.is_held());
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn deregistering_between_attempts_ends_them() {
    let registry = FakeRegistry::new();
    registry.down(true);
    let registration = register_with(&registry, options().with_keep_trying(true)).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let attempts = registry.registers();
    registration.deregister().await.unwrap();
    registry.down(false);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(registry.registers(), attempts);
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn deregistering_while_it_registers_again_takes_that_back() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    registry.latency(Duration::from_secs(1));
    registry.lose();
    let before = registry.registers();
    while registry.registers() == before {
        sleep(Duration::from_millis(10)).await;
    }
    registration.deregister().await.unwrap();
    assert!(!registry.is_held());
    sleep(3 * TTL).await;
    assert!(!registry.is_held());
    assert_eq!(tasks(), 0);
}

/// Polls the future `polls` times, and lets everything else run in between.
async fn poll_times(future: impl Future, polls: usize, pause: Duration) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        sleep(pause).await;
    }
}

#[tokio::test(start_paused = true)]
async fn registering_may_be_dropped_at_every_await() {
    for keep_trying in [false, true] {
        for polls in 0..30 {
            let registry = FakeRegistry::new();
            registry.latency(Duration::from_millis(100));
            let options = options().with_keep_trying(keep_trying);
            poll_times(register_with(&registry, options), polls, Duration::from_millis(9)).await;
            sleep(Duration::from_secs(1)).await;
            assert!(!registry.is_held(), "a key is left after {polls} polls");
            assert_eq!(tasks(), 0, "a task is left after {polls} polls");
            assert_eq!(Arc::strong_count(&registry), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn registering_dropped_before_it_began_asks_nothing_of_the_registry() {
    let registry = FakeRegistry::new();
    {
        let mut future = pin!(register(&registry));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    settle().await;
    assert_eq!((registry.registers(), tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn registering_may_be_dropped_while_the_registry_fails() {
    for polls in 0..30 {
        let registry = FakeRegistry::new();
        registry.latency(Duration::from_millis(100));
        registry.silent(polls % 2 == 0);
        registry.down(polls % 3 == 0);
        let options = options().with_keep_trying(true);
        poll_times(register_with(&registry, options), polls, Duration::from_millis(200)).await;
        sleep(TTL + Duration::from_secs(5)).await;
        assert!(!registry.is_held(), "a key is left after {polls} polls");
        assert_eq!(tasks(), 0, "a task is left after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_deregister_does_not_call_it_off() {
    let registry = FakeRegistry::new();
    registry.latency(Duration::from_millis(100));
    let registration = register(&registry).await.unwrap();
    poll_times(registration.deregister(), 1, Duration::ZERO).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!registry.is_held());
    assert!(registration.status().is_deregistered());
}

#[test]
fn a_runtime_that_ends_first_is_no_panic() {
    let registry = FakeRegistry::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registration = runtime.block_on(register(&registry)).unwrap();
    drop(runtime);
    assert_eq!(registration.status().error().unwrap().kind(), ErrorKind::Closed);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = other.block_on(registration.deregister()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(registration);
}

#[test]
fn outside_a_runtime_registering_is_an_error_and_not_a_panic() {
    let registry = FakeRegistry::new();
    let mut future = pin!(register(&registry));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(result) = future.as_mut().poll(&mut context) else { panic!("it waits") };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
}
