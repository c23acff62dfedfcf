//! What endpoints learn from calls.

use std::time::Duration;

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::Member;
use fleetward_core::outlier::OutlierDetection;
use fleetward_http::{Client, ClientBuilder, RetryPolicy};
use http::header::RETRY_AFTER;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};

use crate::server::{Server, dead_instance, raw};
use crate::support::*;

/// One failure is enough.
async fn strict(builder: ClientBuilder<Publisher>) -> Client {
    let detection = OutlierDetection::default().with_consecutive_failures(Some(1));
    let client = builder.outlier_detection(detection).build();
    ready(&client, 2).await;
    client
}

fn unhealthy(client: &Client) -> Vec<Member> {
    members(client).into_iter().filter(|member| !member.is_healthy()).collect()
}

#[tokio::test]
async fn a_call_is_under_way_until_its_body_ends() {
    let server = Server::start().await;
    let client = retrying(of([&server]), 1).await;
    let mut body = get(&client, "/three").await.unwrap().into_body();
    let mut read = Vec::new();
    loop {
        assert_eq!(in_flight(&client), 1);
        match body.frame().await {
            Some(frame) => read.extend(frame.unwrap().into_data().unwrap()),
            None => break,
        }
    }
    assert_eq!(read, b"0\n1\n2\n");
    assert_eq!(in_flight(&client), 0);
    // Its latency is the time to its head, not to its end.
    let latency = members(&client)[0].latency(Instant::now()).unwrap();
    assert!(latency < 0.25, "{latency}");
}

#[tokio::test]
async fn a_body_whose_length_is_known_ends_with_its_last_byte() {
    let server = Server::start().await;
    let client = retrying(of([&server]), 1).await;
    let mut response = get(&client, "/").await.unwrap();
    assert_eq!(in_flight(&client), 1);
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(in_flight(&client), 0);
    let head = client.send(request("HEAD", "/")).await.unwrap();
    assert_eq!(in_flight(&client), 0);
    drop((response, head));
}

#[tokio::test]
async fn a_body_that_is_dropped_is_over_and_no_failure() {
    let servers = [Server::start().await, Server::start().await];
    let client = strict(of(&servers)).await;
    for _ in 0..20 {
        let response = get(&client, "/slow").await.unwrap();
        assert_eq!(in_flight(&client), 1);
        drop(response);
        assert_eq!(in_flight(&client), 0);
    }
    assert!(unhealthy(&client).is_empty());
}

#[tokio::test]
async fn a_thousand_calls_that_are_given_up_leave_nothing_behind() {
    let servers = [Server::start().await, Server::start().await];
    let detection = OutlierDetection::default().with_consecutive_failures(Some(1));
    let client = of(&servers).retry(RetryPolicy::default()).outlier_detection(detection).build();
    ready(&client, 2).await;
    let mut given_up = 0;
    for round in 0..10 {
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let client = client.clone();
                let path = if n % 2 == 0 { "/hang" } else { "/slow" };
                let patience = Duration::from_micros(200 * (n + 1) + 37 * round);
                tokio::spawn(async move {
                    let call =
                        async { get(&client, path).await.unwrap().into_body().collect().await };
                    timeout(patience, call).await.is_err()
                })
            })
            .collect();
        for call in calls {
            given_up += usize::from(call.await.unwrap());
        }
    }
    assert_eq!(given_up, 1000);
    assert_eq!(in_flight(&client), 0);
    assert!(unhealthy(&client).is_empty());
    assert_eq!(get(&client, "/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_server_s_troubles_eject_it_and_the_caller_s_mistakes_do_not() {
    let servers = [Server::start().await, Server::start().await];
    let in_turn = fleetward_balancers::RoundRobin::new();
    let client = strict(of(&servers).balancer(in_turn)).await;
    for status in [301, 400, 401, 404, 408, 418, 501, 505] {
        for server in &servers {
            server.then(Response::builder().status(status));
            server.then(Response::builder().status(status));
        }
        for _ in 0..4 {
            assert_eq!(get(&client, "/").await.unwrap().status(), status);
        }
    }
    assert!(unhealthy(&client).is_empty());
    for status in [429, 500, 502, 503, 504, 507] {
        let servers = [Server::start().await, Server::start().await];
        let client = strict(of(&servers)).await;
        servers[0].always(status);
        for _ in 0..2 {
            get(&client, "/").await.unwrap();
        }
        until("it is ejected", || unhealthy(&client).len() == 1).await;
        assert_eq!(unhealthy(&client)[0].instance().id().as_str(), servers[0].id(), "{status}");
    }
}

#[tokio::test]
async fn an_instance_that_asks_to_be_left_alone_counts_as_that_slow_for_a_minute_at_most() {
    for (wait, expected) in [("20", 20.0), ("86400", 60.0), ("soon", 5.0), ("1", 5.0)] {
        let server = Server::start().await;
        server.then(Response::builder().status(503).header(RETRY_AFTER, wait));
        let client = of([&server]).build();
        get(&client, "/").await.unwrap();
        let latency = members(&client)[0].latency(Instant::now()).unwrap();
        assert!((expected * 0.9..expected + 0.1).contains(&latency), "{wait}: {latency}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_counts() {
    let (broken, _) = raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let server = Server::start().await;
    let client = strict(builder([broken.clone(), server.instance()])).await;
    let mut errors = Vec::new();
    for _ in 0..2 {
        errors.extend(get(&client, "/").await.unwrap().into_body().collect().await.err());
    }
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].context("instance"), Some(broken.id().as_str()));
    until("it is ejected", || unhealthy(&client).len() == 1).await;
    assert_eq!(in_flight(&client), 0);
}

#[tokio::test]
async fn a_deadline_that_passes_counts_before_the_head_and_within_the_body() {
    for path in ["/hang", "/slow"] {
        let servers = [Server::start().await, Server::start().await];
        let client = strict(of(&servers).timeout(Duration::from_millis(100))).await;
        if let Ok(response) = get(&client, path).await {
            assert!(response.into_body().collect().await.unwrap_err().is_timeout());
        }
        until("it is ejected", || unhealthy(&client).len() == 1).await;
    }
}

#[tokio::test]
async fn a_dead_instance_is_left_out_after_a_few_calls() {
    let server = Server::start().await;
    let client = strict(builder([dead_instance().await, server.instance()])).await;
    for _ in 0..4 {
        assert_eq!(get(&client, "/").await.unwrap().status(), 200);
    }
    ready(&client, 1).await;
}

#[tokio::test]
async fn a_header_reaches_the_balancer() {
    #[derive(Debug)]
    struct ByHeader;
    impl Balancer for ByHeader {
        fn pick(&self, set: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
            let wanted = context.attribute("x-instance").or(context.attribute(":path"))?;
            set.iter().position(|member| member.instance().id().as_str().as_bytes() == wanted)
        }
    }
    let servers = [Server::start().await, Server::start().await];
    let client = of(&servers).balancer(ByHeader).build();
    ready(&client, 2).await;
    for server in servers.iter().cycle().take(6) {
        let request = Request::get("/any").header("X-Instance", server.id()).body(String::new());
        let response = client.send(request.unwrap()).await.unwrap();
        assert_eq!(text(response).await, server.id());
    }
}

/// Another program at an instance's address, or one that has lost its rights.
#[tokio::test]
async fn one_that_refuses_every_path_gets_few_calls() {
    for (good, wrong) in [(4, 1), (1, 2)] {
        for status in [400, 401, 403, 404, 405, 410, 421, 501] {
            let mut servers = Vec::new();
            for _ in 0..good + wrong {
                servers.push(Server::start().await);
            }
            servers[..wrong].iter().for_each(|server| server.always(status));
            let client = of(&servers).build();
            ready(&client, good + wrong).await;
            let mut failed = [0, 0];
            for i in 0..400 {
                // No two paths the same, in some cases not even their first part.
                let path = if status == 404 { format!("/{i}") } else { format!("/users/{i}") };
                let answer = get(&client, &path).await.unwrap();
                failed[usize::from(i >= 100)] += usize::from(answer.status() != 200);
            }
            assert!(failed[1] <= 8, "{good} good ones, {status}: {failed:?}");
        }
    }
}

/// Paths that are nowhere are no instance's fault.
#[tokio::test]
async fn what_all_refuse_is_spread_as_ever() {
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Server::start().await);
    }
    servers.iter().for_each(|server| server.always(404));
    let client = of(&servers)
        .balancer(fleetward_balancers::RoundRobin::new())
        .outlier_detection(OutlierDetection::default())
        .build();
    ready(&client, 4).await;
    for _ in 0..800 {
        get(&client, "/users/7").await.unwrap();
    }
    assert!(unhealthy(&client).is_empty());
    for server in &servers {
        let seen = server.seen().len();
        assert!((150..=250).contains(&seen), "{seen}");
    }
}
