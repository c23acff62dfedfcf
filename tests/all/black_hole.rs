//! The registry's own port among the instances: etcd speaks gRPC, knows nothing of the service, and says so at
//! once.

use fleetward::Instance;
use fleetward::discovery::FixedInstancer;
use fleetward::grpc::Channel;
use fleetward::outlier::OutlierDetection;
use fleetward_testkit::servers::Etcd;
use pb::greet_client::GreetClient;
use pb::greet_server::{Greet, GreetServer};
use pb::{GreetRequest, GreetResponse};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Request, Response, Status};

#[allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
mod pb {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/greeter/generated/greeter.rs"));
}

struct Greeter;

#[tonic::async_trait]
impl Greet for Greeter {
    async fn morning(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        let message = format!("Good morning, {}!", request.into_inner().name);
        Ok(Response::new(GreetResponse { message, from: String::new() }))
    }

    async fn night(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        self.morning(request).await
    }
}

async fn greeter() -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(GreetServer::new(Greeter));
    tokio::spawn(server.serve_with_incoming(incoming));
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_s_own_port_gets_few_calls() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let wrong = Instance::new(etcd.endpoint().as_str()).unwrap();
    for good in [4, 1] {
        for detecting in [false, true] {
            let mut instances = vec![wrong.clone()];
            for _ in 0..good {
                instances.push(greeter().await);
            }
            let all = instances.len();
            let mut builder = Channel::builder(FixedInstancer::new("greeter", instances));
            if detecting {
                builder = builder.outlier_detection(OutlierDetection::default());
            }
            let channel = builder.build();
            let ready = channel.endpoints().wait_for(|set| set.ready().len() == all);
            tokio::time::timeout(std::time::Duration::from_secs(20), ready).await.unwrap();
            let mut client = GreetClient::new(channel.clone());
            let mut failed = 0;
            for i in 0..400 {
                let request = GreetRequest { name: "you".into() };
                let answer = match i % 2 {
                    0 => client.morning(request).await,
                    _ => client.night(request).await,
                };
                failed += usize::from(answer.is_err());
            }
            // Five refusals of each method raise a doubt, whenever they come; then there are a few probes.
            assert!(failed <= 16, "{good} good ones, {detecting}: {failed}");
        }
    }
}
