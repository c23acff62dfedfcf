//! A client that calls through a balancer and counts who answered.

use std::time::Duration;

use clap::Args;
use fleetward::grpc::{Channel, Connect, RetryPolicy};
use tonic::Request;

use crate::Result;
use crate::pb::GreetRequest;
use crate::pb::greet_client::GreetClient;
use crate::tally::Tally;

#[derive(Args)]
pub(crate) struct ClientArgs {
    /// The registry and, at the end of its path, the service's name
    #[arg(long, env = "FLEETWARD_REGISTRY")]
    registry: String,
    /// How an instance is chosen, by name
    #[arg(long, default_value = "peak_ewma")]
    balancer: String,
    /// How many calls to make
    #[arg(long, default_value_t = 100)]
    calls: u32,
    /// The time from one call to the next
    #[arg(long, default_value = "100ms")]
    interval: humantime::Duration,
    /// The deadline of each call
    #[arg(long, default_value = "5s")]
    timeout: humantime::Duration,
}

/// Whether every call was answered.
pub(crate) async fn run(args: ClientArgs) -> Result<bool> {
    let channel = Channel::builder(&args.registry)
        .balancer(fleetward::balancers::by_name(&args.balancer)?)
        .retry(RetryPolicy::default())
        .connect()
        .await?;
    let mut greeter = GreetClient::new(channel);
    let mut tally = Tally::new(&["calls"]);
    let mut ticks = tokio::time::interval((*args.interval).max(Duration::from_micros(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for _ in 0..args.calls {
        ticks.tick().await;
        call(&mut greeter, *args.timeout, &mut tally, 0).await;
    }
    print!("{tally}");
    println!("calls={} failed={} instances={}", tally.calls(), tally.failed(), tally.answered());
    Ok(tally.failed() == 0)
}

/// One call, counted in `column`.
pub(crate) async fn call(
    greeter: &mut GreetClient<Channel>,
    timeout: Duration,
    tally: &mut Tally,
    column: usize,
) {
    let mut request = Request::new(GreetRequest { name: "you".to_owned() });
    request.set_timeout(timeout);
    match greeter.morning(request).await {
        Ok(response) => tally.answer(&response.into_inner().from, column),
        Err(status) => {
            eprintln!("failed: {:?}: {}", status.code(), status.message());
            tally.failure();
        }
    }
}
