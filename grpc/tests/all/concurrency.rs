//! A limit on the calls of each instance.

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::endpoints::Member;
use fleetward_core::limit::ConcurrencyLimit;
use fleetward_core::outlier::OutlierDetection;
use futures::future::join_all;
use tokio::time::timeout;

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// Goes to the first that it may go to.
#[derive(Debug)]
struct First;

impl Balancer for First {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(0)
    }
}

#[tokio::test]
async fn calls_that_a_full_instance_turns_away_go_elsewhere() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let strict = OutlierDetection::default().with_consecutive_failures(Some(1));
    let builder = builder(&servers).balancer(First).outlier_detection(strict).connection(quick());
    let limited = ConcurrencyLimit::new(1).per_instance(builder.connector());
    let channel = builder.build_on(limited);
    let ready = channel.endpoints().wait_for(|set| set.ready().len() == 3);
    assert!(timeout(LONG, ready).await.is_ok());
    let calls = (0..3).map(|_| {
        let mut greeter = GreetClient::new(channel.clone());
        async move { greeter.morning(named("sleep 300")).await }
    });
    let answers = join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(servers.map(|server| server.calls()), [1, 1, 1]);
    assert!(channel.endpoints().load().ready().iter().all(Member::is_healthy));
}
