//! The rules of the index, the pace, and what happens to a query that nobody waits for any more.

use std::time::Duration;

use fleetward_core::ErrorKind;
use fleetward_core::discovery::{Change, Source};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::time::{sleep, timeout};

use crate::scripted::{Say, Scripted, entry};
use crate::support::*;

fn one() -> String {
    format!("[{}]", entry("1", "10.0.0.1"))
}

fn two() -> String {
    format!("[{},{}]", entry("1", "10.0.0.1"), entry("2", "10.0.0.2"))
}

#[tokio::test]
async fn go_kit_case_9_eof_does_not_end_discovery() {
    let server = Scripted::start(
        [Say::health("5", &one()), Say::Hangup, Say::health("5", &one()), Say::Half],
        Say::health("9", &two()),
    )
    .await;
    let mut watch = follow(&connect(server.config()).await);
    converged(&mut watch, 1, 10 * SECOND).await;
    converged(&mut watch, 2, 3 * SECOND).await;
}

#[tokio::test]
async fn go_kit_case_9_an_index_going_backwards_does_not_end_discovery() {
    let script = [Say::health("100", &one()), Say::health("7", &one()), Say::health("7", &one())];
    let server = Scripted::start(script, Say::health("9", &two())).await;
    let mut watch = follow(&connect(server.config()).await);
    converged(&mut watch, 2, 3 * SECOND).await;
}

#[tokio::test]
async fn go_kit_case_9_an_older_index_is_never_used_again() {
    let script = [Say::health("100", &one()), Say::health("7", &one()), Say::health("8", &one())];
    let server = Scripted::start(script, Say::Silence).await;
    let mut watch = follow(&connect(server.config()).await);
    converged(&mut watch, 1, 10 * SECOND).await;
    eventually("it waits again", 3 * SECOND, || async { server.paths().len() == 4 }).await;
    let index = |path: &String| {
        path.split(['?', '&']).find_map(|part| part.strip_prefix("index=")).map(str::to_owned)
    };
    let indices: Vec<_> = server.paths().iter().map(index).collect();
    assert_eq!(indices, [None, Some("100".into()), None, Some("8".into())]);
}

#[tokio::test]
async fn pitfall_index_zero_is_one_and_a_lower_one_lists_again() {
    let server = Scripted::start([Say::health("0", "[]")], Say::Silence).await;
    let registry = connect(server.config()).await;
    assert_eq!(registry.list(&service("a")).await.unwrap().cursor.index(), 1);

    let Some(consul) = Consul::start_or_skip().await else { return };
    // An agent that is waited for with an index of the future answers at the end of the wait.
    let registry = connect(config(&consul).with_wait(SECOND)).await;
    for n in 1..=20 {
        put_plain(&consul, "a", &format!("a-{n}"), "10.0.0.1").await;
    }
    let before = registry.list(&service("a")).await.unwrap().cursor;
    // The agent is wiped, its history begins anew.
    consul.kill().await;
    consul.start_again().await;
    let error = Watch::from(&registry, "a", before).error(TTL).await;
    assert!(error.is_cursor_lost(), "{error}");
    put_plain(&consul, "a", "new", "10.0.0.2").await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 3 * SECOND).await;
}

#[tokio::test]
async fn pitfall_a_missing_index_is_an_error_and_an_unchanged_one_is_not() {
    let script = [Say::Answer(200, Vec::new(), "[]".into()), Say::health("x", "[]")];
    let server = Scripted::start(script, Say::health("5", &one())).await;
    let registry = connect(server.config()).await;
    for _ in 0..2 {
        let error = registry.list(&service("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    }
    let mut watch = Watch::open(&registry, "a").await;
    for _ in 0..3 {
        let item = watch.next(SECOND).await;
        assert!(matches!(item, Ok(Change::Progress)), "{item:?}");
    }
}

#[tokio::test]
async fn pitfall_never_more_than_ten_requests_a_second_whatever_is_answered() {
    let body = one();
    let same = Say::health("5", &body);
    for after in [
        same.clone(),
        Say::health("0", "[]"),
        Say::Hangup,
        Say::Half,
        Say::Answer(500, Vec::new(), "No cluster leader".into()),
        Say::Answer(200, Vec::new(), "{}".into()),
    ] {
        let server = Scripted::start([same.clone()], after.clone()).await;
        let watch = follow(&connect(server.config()).await);
        sleep(4 * SECOND).await;
        let most = server.most_in_a_second();
        println!("{most} in a second, {} in all: {after:?}", server.paths().len());
        assert!((1..=10).contains(&most), "{most}: {after:?}");
        drop(watch);
    }
    // An index that grows with every answer, and goes back now and then.
    let growing = (0..1000).map(|n| Say::health(&(n % 7 + 1).to_string(), &body));
    let server = Scripted::start(growing, same).await;
    let watch = follow(&connect(server.config()).await);
    sleep(4 * SECOND).await;
    let most = server.most_in_a_second();
    println!("{most} in a second with an index that jumps");
    assert!(most <= 10, "{most}");
    drop(watch);
}

#[tokio::test]
async fn what_is_gone_after_a_cut_is_not_taken_for_a_change_seen() {
    // An agent that was started again, and whose index has grown beyond the old one.
    for cut in [Say::Hangup, Say::Half, Say::Answer(504, Vec::new(), "time-out".into())] {
        let script = [Say::health("5", &one()), cut];
        let server = Scripted::start(script, Say::health("9", "[]")).await;
        let mut watch = follow(&connect(server.config()).await);
        converged(&mut watch, 1, 10 * SECOND).await;
        eventually("it is listed again", 5 * SECOND, || async { server.paths().len() > 4 }).await;
        assert_eq!(watch.current().instances.len(), 1, "held back");
    }
}

#[tokio::test]
async fn pitfall_wait_is_sent_and_outlasted() {
    // Consul adds up to a sixteenth: an answer after 16 s x 17/16 must still be taken.
    let Some(consul) = Consul::start_or_skip().await else { return };
    let config = config(&consul).with_wait(16 * SECOND).with_request_timeout(SECOND);
    let mut watch = Watch::open(&connect(config).await, "a").await;
    let item = loop {
        match watch.next(19 * SECOND).await {
            // What else an agent does while it starts wakes the query of a name that nobody has.
            Ok(Change::Full(listing)) if listing.entries.is_empty() => {}
            item => break item,
        }
    };
    assert!(matches!(item, Ok(Change::Progress)), "{item:?}");

    let server = Scripted::start([Say::health("5", "[]")], Say::Silence).await;
    let config = server.config().with_wait(2 * SECOND).with_request_timeout(SECOND / 2);
    let mut watch = Watch::open(&connect(config).await, "a").await;
    let begun = tokio::time::Instant::now();
    let error = watch.error(4 * SECOND).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(begun.elapsed() > Duration::from_millis(2_600), "{:?}", begun.elapsed());
    assert!(server.paths()[1].contains("index=5&wait=2000ms"), "{:?}", server.paths());
}

#[tokio::test]
async fn a_watch_that_is_dropped_closes_its_connection() {
    let server = Scripted::start([Say::health("5", "[]")], Say::Silence).await;
    let registry = connect(server.config()).await;
    let watch = Watch::open(&registry, "a").await;
    eventually("the query waits", 5 * SECOND, || async { server.paths().len() == 2 }).await;
    // One is for registrations and signs of life, and stays for as long as the registry.
    assert_eq!(server.open(), 2, "the connection of the list is used again");
    drop(watch);
    eventually("it is closed", 5 * SECOND, || async { server.open() == 1 }).await;
    drop(registry);
    eventually("the other one too", 5 * SECOND, || async { server.open() == 0 }).await;

    // At any await.
    let server = Scripted::start([], Say::health("5", "[]")).await;
    for micros in 0..50 {
        let registry = connect(server.config()).await;
        let _cut = timeout(Duration::from_micros(micros * 40), registry.list(&service("a"))).await;
    }
    eventually("all are closed", 2 * SECOND, || async { server.open() == 0 }).await;
}
