//! Whatever the moment at which a caller loses interest, nothing stays behind.

use fleetward_grpc::{HedgingPolicy, MethodConfig, ServiceConfig};
use tokio::task::JoinSet;

use super::*;
use crate::server::Server;
use crate::support::*;

const CALLS: u64 = 10_000;
const AT_A_TIME: usize = 100;

async fn one(channel: &Channel, rng: &mut fastrand::Rng) {
    let mut client = GreetClient::new(channel.clone());
    match rng.u8(0..6) {
        0 => drop(client.morning(named("sleep 4")).await),
        1 => drop(client.morning(named("you")).await),
        2 => {
            if let Ok(answer) = client.countdown(named("3 1 14")).await {
                let mut down = answer.into_inner();
                while let Ok(Some(_)) = down.message().await {}
            }
        }
        kind => {
            let (tell, names) = stream();
            let size = if rng.u8(..) < 32 { 40_000 } else { 10 };
            // Some hold their end for longer than the call.
            let holds = rng.bool();
            let pause = Duration::from_micros(rng.u64(0..2000));
            let said = async {
                for _ in 0..3 {
                    let _ = tell.send(named("x".repeat(size))).await;
                    tokio::time::sleep(pause).await;
                }
                if holds {
                    tell.closed().await;
                }
                drop(tell);
            };
            if kind < 4 {
                let called = client.gather(names);
                let _ = tokio::join!(said, called);
            } else {
                let listen = async {
                    if let Ok(answer) = client.chat(names).await {
                        let mut answers = answer.into_inner();
                        for _ in 0..2 {
                            let _ = answers.message().await;
                        }
                    }
                };
                tokio::join!(said, listen);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_dropped_calls_leave_nothing_behind() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let hedging = HedgingPolicy::new(millis(1)).with_max_attempts(3);
    let config = ServiceConfig::builder()
        .method("/Greet/Gather", MethodConfig::new().with_retry(policy()))
        .build()
        .unwrap();
    let channel = builder(&servers)
        .hedge(hedging)
        .service_config(config)
        .connection(quick())
        .replay_limit(100_000)
        .build();
    ready(&channel, 3).await;
    morning(&channel, "you").await.unwrap();
    let members: Vec<_> = channel.endpoints().load().ready().iter().cloned().collect();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    let mut rng = fastrand::Rng::with_seed(10_000);
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        if n % 50 == 0 {
            let failing = &servers[rng.usize(0..3)].seen.failing;
            failing.fetch_add(3, std::sync::atomic::Ordering::SeqCst);
        }
        if calls.len() >= AT_A_TIME {
            calls.join_next().await.unwrap().unwrap();
        }
        let (channel, mut rng) = (channel.clone(), fastrand::Rng::with_seed(rng.u64(..)));
        calls.spawn(async move {
            let patience = Duration::from_micros(rng.u64(0..25_000));
            let _ = tokio::time::timeout(patience, one(&channel, &mut rng)).await;
        });
    }
    while calls.join_next().await.is_some() {}

    until("nothing is in flight", || members.iter().all(|member| member.in_flight() == 0)).await;
    until("no handler runs", || servers.iter().all(|server| server.running() == 0)).await;
    until("nothing is kept", || kept(&channel) == 0).await;
    // A server may have hung up on so many resets; then a connection is being made anew.
    ready(&channel, 3).await;
    until("no task is left", || tasks() <= before).await;
    let begun: usize = servers.iter().map(Server::calls).sum();
    assert!(begun > CALLS as usize / 10, "{begun} attempts are too few to show anything");
}
