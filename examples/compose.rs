//! Retry, timeout and rate limit around a plain tower service. No gRPC anywhere.
//!
//! `cargo run --example compose`

use std::sync::Arc;
use std::time::Duration;

use fleetward::balancers::Random;
use fleetward::context::WithContext;
use fleetward::{Balanced, DefaultEndpointer, Endpointer, Instance, Retry};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Two servers that echo a line, and an address where nobody listens.
    let (first, second) = (echo_server().await?, echo_server().await?);
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let list = fleetward::discover(&format!("static:{first},{second},{nobody}")).await?;

    // An instance becomes a service that sends one line and reads one.
    let endpointer = DefaultEndpointer::new(list, |instance: Arc<Instance>| async move {
        let address = instance.address().authority();
        Ok::<_, Error>(service_fn(move |line: String| {
            let address = address.clone();
            async move { ask(&address, &line).await }
        }))
    });
    endpointer.endpoints().wait_for(|set| set.ready().len() == 3).await;

    // From the outside in: at most 100 calls a second; five attempts within two seconds, each on
    // another instance; each attempt within half a second. A line becomes a request that can carry
    // what its attempts know of each other.
    let mut service = ServiceBuilder::new()
        .rate_limit(100, Duration::from_secs(1))
        .map_request(WithContext::<String>::from)
        .layer(Retry::new(5, Duration::from_secs(2)))
        .timeout(Duration::from_millis(500))
        .service(Balanced::new(endpointer, Random::new()));

    for n in 1..=12 {
        let answer = service.ready().await?.call(format!("line {n}")).await?;
        println!("{answer}");
    }
    println!("12 of 12 answered, though one of three instances is dead");
    Ok(())
}

async fn ask(address: &str, line: &str) -> Result<String, Error> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    Ok(format!("{} from {address}", answer.trim_end()))
}

async fn echo_server() -> Result<std::net::SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                tokio::io::copy(&mut BufReader::new(reader), &mut writer).await
            });
        }
    });
    Ok(address)
}
