//! The keeper: registered once is registered for ever, by exactly one lease, and without a fight.

use std::time::Duration;

use fleetward_core::registration::Status;
use fleetward_core::{Error, ErrorKind};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::fake_registry::{FakeRegistry, TTL, options, register, register_with};
use crate::support::settle;

#[tokio::test(start_paused = true)]
async fn a_failed_first_attempt_is_the_callers_error() {
    let registry = FakeRegistry::new();
    registry.down(true);
    let error = register(&registry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "register: unavailable: connection refused (service=greeter, instance=10.0.0.1:80)"
    );
    sleep(Duration::from_secs(60)).await;
    assert_eq!(registry.registers(), 1, "and nothing goes on in the background");
}

#[tokio::test(start_paused = true)]
async fn with_keep_trying_a_registry_that_is_down_is_waited_for() {
    let registry = FakeRegistry::new();
    registry.down(true);
    let registration = register_with(&registry, options().with_keep_trying(true)).await.unwrap();
    assert_eq!(registration.status().error().unwrap().kind(), ErrorKind::Unavailable);
    let Status::Retrying { since, .. } = registration.status() else { panic!() };
    sleep(Duration::from_secs(600)).await;
    assert!(matches!(registration.status(), Status::Retrying { since: now, .. } if now == since));
    registry.down(false);
    let mut status = registration.watch_status();
    let back = timeout(Duration::from_secs(5), status.wait_for(Status::is_registered));
    back.await.unwrap().unwrap();
    assert!(registry.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_returned_even_with_keep_trying() {
    let registry = FakeRegistry::new();
    registry.fail_register(Some(Error::invalid_input("the key is too long")));
    let error = register_with(&registry, options().with_keep_trying(true)).await.unwrap_err();
    assert!(error.is_permanent());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(registry.registers(), 1);
}

#[tokio::test(start_paused = true)]
async fn options_that_cannot_work_are_errors() {
    let registry = FakeRegistry::new();
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
        let error = register_with(&registry, options().with_ttl(ttl)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let zero = options().with_operation_timeout(Duration::ZERO);
    assert!(register_with(&registry, zero).await.is_err());
    assert_eq!(registry.registers(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_renews_every_third_of_the_ttl_and_never_registers_again() {
    let registry = FakeRegistry::new();
    let start = Instant::now();
    let registration = register(&registry).await.unwrap();
    for _ in 0..100 {
        sleep(TTL / 10).await;
        assert!(registry.is_held());
    }
    let renewals = registry.renewals();
    let mut before = start;
    for renewal in &renewals {
        let pause = *renewal - before;
        assert!(pause >= TTL / 3 * 9 / 10 && pause <= TTL / 3 + Duration::from_millis(2));
        before = *renewal;
    }
    assert!((30..=34).contains(&renewals.len()), "{} in ten TTLs", renewals.len());
    assert_eq!(registry.registers(), 1);
    assert!(registration.status().is_registered());
}

#[tokio::test(start_paused = true)]
async fn an_absurd_granted_ttl_neither_spins_nor_sleeps_for_ever() {
    for granted in [Duration::ZERO, Duration::MAX / 4] {
        let registry = FakeRegistry::new();
        registry.grant(granted.min(Duration::from_secs(1 << 40)));
        let _registration = register(&registry).await.unwrap();
        sleep(Duration::from_secs(90)).await;
        let renewals = registry.renewals().len() + registry.registers();
        assert!((28..1000).contains(&renewals), "{renewals} for {granted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_1043_a_lost_lease_is_registered_again_for_ever() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    let mut status = registration.watch_status();
    // Lost, and registering again fails for ten minutes; five times over.
    for round in 1..=5 {
        registry.lose();
        registry.fail_register(Some(Error::new(ErrorKind::Unavailable, "no leader")));
        let before = registry.registers();
        sleep(Duration::from_secs(600)).await;
        let attempts = registry.registers() - before;
        assert!((300..6000).contains(&attempts), "{attempts} attempts in round {round}");
        assert!(registration.status().is_retrying());
        registry.fail_register(None);
        let back = timeout(Duration::from_secs(2), status.wait_for(Status::is_registered));
        back.await.expect("back within the longest backoff").unwrap();
        assert!(registry.is_held());
    }
}

#[tokio::test(start_paused = true)]
async fn the_backoff_starts_over_after_a_success() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    let mut status = registration.watch_status();
    for _ in 0..10 {
        registry.lose();
        registry.fail_register(Some(Error::new(ErrorKind::Unavailable, "no leader")));
        sleep(Duration::from_secs(60)).await;
        registry.fail_register(None);
        status.wait_for(Status::is_registered).await.unwrap();
        // A short failure soon after the long one.
        registry.lose();
        registry.fail_register(Some(Error::new(ErrorKind::Unavailable, "no leader")));
        let before = registry.registers();
        while registry.registers() == before {
            sleep(Duration::from_millis(1)).await;
        }
        registry.fail_register(None);
        let back = timeout(Duration::from_millis(150), status.wait_for(Status::is_registered));
        back.await.expect("the first wait is 100 ms at most").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_loses_every_lease_is_not_hammered() {
    let registry = FakeRegistry::new();
    registry.loses_all(true);
    let _registration = register(&registry).await.unwrap();
    sleep(Duration::from_secs(90)).await;
    let registers = registry.registers();
    assert!((25..40).contains(&registers), "{registers} in 90 s at a TTL of 9 s");
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_lease_that_ends_in_silence_is_noticed() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    let mut status = registration.watch_status();
    registry.silent(true);
    let error = status.wait_for(Status::is_retrying).await.unwrap();
    assert!(error.error().unwrap().is_timeout(), "{error:?}");
    assert!(registry.is_held(), "noticed before the lease ends");
    registry.silent(false);
    registry.lose();
    let back = timeout(Duration::from_secs(5), status.wait_for(Status::is_registered));
    back.await.unwrap().unwrap();
    assert!(registry.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_for_minutes_has_everybody_back_within_seconds() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    let mut status = registration.watch_status();
    registry.down(true);
    sleep(Duration::from_secs(300)).await;
    assert!(!registry.is_held());
    assert!(registration.status().is_retrying());
    registry.down(false);
    let back = timeout(Duration::from_secs(5), status.wait_for(Status::is_registered));
    back.await.unwrap().unwrap();
    assert!(registry.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_past_its_ttl_is_back_within_two_seconds() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    settle().await;
    // Nothing runs while the clock jumps.
    advance(10 * TTL).await;
    assert!(!registry.is_held());
    let continued = Instant::now();
    while !registry.is_held() {
        sleep(Duration::from_millis(10)).await;
        assert!(continued.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(registry.registers(), 2);
    settle().await;
    assert!(registration.status().is_registered());
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_the_registry_tells_of_is_repaired_at_once() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    for _ in 0..5 {
        // The first seconds of an interval of three.
        sleep(Duration::from_millis(500)).await;
        assert!(registration.status().is_registered());
        registry.lose();
        registry.hint();
        let lost = Instant::now();
        while !registry.is_held() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(lost.elapsed() <= Duration::from_millis(700), "{:?}", lost.elapsed());
        // Healthy for a while, so the next loss is a first one again.
        sleep(Duration::from_secs(40)).await;
    }
    assert_eq!(registry.registers(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_hint_without_a_loss_is_one_renewal_more() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(registry.renewals().len(), 0);
    registry.hint();
    sleep(Duration::from_millis(200)).await;
    assert_eq!((registry.renewals().len(), registry.registers()), (1, 1));
    assert!(registration.status().is_registered());
}

#[tokio::test(start_paused = true)]
async fn hints_and_losses_without_end_are_bounded() {
    for loses in [false, true] {
        let registry = FakeRegistry::new();
        registry.loses_all(loses);
        let _registration = register(&registry).await.unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(90) {
            registry.hint();
            sleep(Duration::from_millis(1)).await;
        }
        let asked = registry.renewals().len() + registry.registers();
        assert!(asked < 500, "{asked} requests in 90 s");
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_lose_theirs_together_do_not_come_back_together() {
    let registries: Vec<_> = (0..200).map(|_| FakeRegistry::new()).collect();
    let mut held = Vec::new();
    for (n, registry) in registries.iter().enumerate() {
        let options = options().with_seed(n as u64);
        held.push(register_with(registry, options).await.unwrap());
    }
    let lost = Instant::now();
    for registry in &registries {
        registry.lose();
        registry.hint();
    }
    let mut most = 0;
    let mut back = 0;
    while back < registries.len() {
        sleep(Duration::from_millis(5)).await;
        let now = registries.iter().filter(|registry| registry.is_held()).count();
        most = most.max(now - back);
        back = now;
        assert!(lost.elapsed() < Duration::from_millis(200), "{back} are back");
    }
    assert!(most < 40, "{most} of 200 within 5 ms");
}

#[tokio::test(start_paused = true)]
async fn superseded_it_stands_back_until_the_key_is_free() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    let mut status = registration.watch_status();
    registry.take_over(10 * TTL);
    let superseded = status.wait_for(Status::is_retrying).await.unwrap();
    assert_eq!(superseded.error().unwrap().kind(), ErrorKind::Conflict);
    sleep(9 * TTL).await;
    assert_eq!(registry.registers(), 1, "it does not fight");
    assert!(registry.renewals().len() <= 35, "it looks again every third of the TTL");
    let back = timeout(2 * TTL, status.wait_for(Status::is_registered));
    back.await.unwrap().unwrap();
    assert_eq!(registry.registers(), 2);
}

#[tokio::test(start_paused = true)]
async fn superseded_it_does_not_remove_its_successor() {
    let registry = FakeRegistry::new();
    let registration = register(&registry).await.unwrap();
    registry.take_over(10 * TTL);
    registration.deregister().await.unwrap();
    assert!(registry.is_held());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_with_an_unknown_outcome_is_written_over_not_doubled() {
    let registry = FakeRegistry::new();
    registry.silent(true);
    let registration = register_with(&registry, options().with_keep_trying(true)).await.unwrap();
    assert!(registration.status().error().unwrap().is_timeout());
    assert!(registry.is_held(), "written, though nobody said so");
    registry.silent(false);
    registration.watch_status().wait_for(Status::is_registered).await.unwrap();
    sleep(3 * TTL).await;
    assert!(registration.status().is_registered(), "under a lease that is ours");
    registration.deregister().await.unwrap();
    assert!(!registry.is_held(), "and there is one key to remove");
}
