//! Taking connections, and making the one to the target for each.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::carry;
use super::{Connection, Fate, Shared};

/// Until it is aborted.
pub(super) async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    loop {
        // Only a client that hung up already, or a lack of file descriptors.
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (number, fate) = enlist(&shared);
        tokio::spawn(serve(client, target, number, fate, shared.clone()));
    }
}

/// Counted before anything else happens, so that a fault that comes next finds it.
fn enlist(shared: &Shared) -> (u64, watch::Receiver<Fate>) {
    let mut connections = shared.connections();
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
    shared: Arc<Shared>,
) {
    let server = tokio::select! {
        server = TcpStream::connect(target) => server.ok(),
        _ = fate.wait_for(|fate| matches!(fate, Fate::Cut | Fate::Reset)) => None,
    };
    match server {
        Some(server) => {
            let left = || {
                if let Some(connection) = shared.connections().open.get_mut(&number) {
                    connection.left = true;
                }
            };
            carry(client, server, fate, shared.conditions.subscribe(), left).await;
        }
        // What the client would see without a proxy in between.
        None => drop(client.set_zero_linger()),
    }
    shared.connections().open.remove(&number);
}
