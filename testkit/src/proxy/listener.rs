//! Taking connections, and making the one to the target for each.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::carry;
use super::network::{Connection, Fate, Network};

/// Until it is aborted.
pub(super) async fn accept(listener: TcpListener, target: SocketAddr, network: Arc<Network>) {
    loop {
        // Only a client that hung up already, or a lack of file descriptors.
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (number, fate) = enlist(&network);
        tokio::spawn(serve(client, target, number, fate, network.clone()));
    }
}

/// Counted before anything else happens, so that a fault that comes next finds it.
fn enlist(network: &Network) -> (u64, watch::Receiver<Fate>) {
    let mut connections = network.connections();
    let begin = if connections.swallowing { Fate::Silent } else { Fate::Alive };
    let (sender, fate) = watch::channel(begin);
    connections.accepted += 1;
    let number = connections.accepted;
    connections.open.insert(number, Connection { fate: sender, left: false });
    (number, fate)
}

async fn serve(
    client: TcpStream,
    target: SocketAddr,
    number: u64,
    mut fate: watch::Receiver<Fate>,
    network: Arc<Network>,
) {
    let server = tokio::select! {
        server = TcpStream::connect(target) => server.ok(),
        _ = fate.wait_for(|fate| matches!(fate, Fate::Cut | Fate::Reset)) => None,
    };
    match server {
        Some(server) => {
            let left = || {
                if let Some(connection) = network.connections().open.get_mut(&number) {
                    connection.left = true;
                }
            };
            carry(client, server, fate, network.conditions.subscribe(), left).await;
        }
        // What the client would see without a proxy in between.
        None => drop(client.set_zero_linger()),
    }
    network.connections().open.remove(&number);
}
