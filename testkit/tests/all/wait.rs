use std::cell::Cell;
use std::time::Duration;

use fleetward_testkit::eventually;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn returns_what_the_condition_found() {
    let polls = Cell::new(0);
    let found = eventually("the third poll", Duration::from_secs(1), || async {
        polls.set(polls.get() + 1);
        (polls.get() == 3).then_some("found")
    })
    .await;
    assert_eq!(found, "found");
    assert_eq!(polls.get(), 3);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not within 2s: pigs fly")]
async fn panics_at_the_deadline() {
    eventually("pigs fly", Duration::from_secs(2), || async { false }).await;
}

#[tokio::test(start_paused = true)]
async fn cuts_off_a_condition_that_hangs() {
    let start = Instant::now();
    let hanging = tokio::spawn(eventually("a hanging call ends", Duration::from_secs(2), || {
        std::future::pending::<bool>()
    }));
    assert!(hanging.await.expect_err("it panics").is_panic());
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}
