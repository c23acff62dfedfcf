//! The main job: services register, a client finds them, balances over them, and retries elsewhere.
//!
//! `cargo run --example greeter` shows all of it in this one process, on the embedded registry.
//! For real use it is two roles, on any registry that a URL can name:
//!
//! ```text
//! cargo run --example greeter --features etcd -- server --registry etcd://127.0.0.1:2379/greeter --port 3000
//! cargo run --example greeter --features etcd -- client --registry etcd://127.0.0.1:2379/greeter \
//!     --balancer peak_ewma --calls 100 --interval 100ms
//! ```
//!
//! Log: `RUST_LOG=fleetward=info`.

mod client;
mod demo;
mod server;
mod tally;

/// The generated client and server; made from `greeter.proto` without protoc.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod pb {
    include!("generated/greeter.rs");
}

use std::process::ExitCode;

use clap::{Parser, Subcommand};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Greets through a registry; without a role, shows all of it in one process")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Serve and stay registered until SIGTERM or ctrl-c
    Server(server::ServerArgs),
    /// Call through a balancer, count the answers, exit with 1 if a call failed
    Client(client::ClientArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Args::parse().role {
        None => demo::run().await,
        Some(Role::Server(args)) => server::run(args).await.map(|()| true),
        Some(Role::Client(args)) => client::run(args).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
