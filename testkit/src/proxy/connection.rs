//! One connection: two sockets and the bytes between them.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::network::{Conditions, Fate};
use super::pump::pump;

/// Carries bytes both ways until both sides have ended, or fate strikes. Calls `left` once when
/// the client has ended its side and the server was told.
pub(super) async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mut fate: watch::Receiver<Fate>,
    conditions: watch::Receiver<Conditions>,
    left: impl FnOnce(),
) {
    for socket in [&client, &server] {
        // Else the kernel joins what was sliced.
        let _best_effort = socket.set_nodelay(true);
    }
    let struck = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, fate.clone(), conditions.clone());
        let up = async { up.await.map(|()| left()) };
        let down = pump(from_server, to_client, fate.clone(), conditions);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => match ended {
                Ok(_) => Fate::Cut,
                // One side was reset, so the other is too.
                Err(_) => Fate::Reset,
            },
            fate = struck(&mut fate) => fate,
        }
    };
    for mut socket in [client, server] {
        if struck == Fate::Reset {
            let _best_effort = socket.set_zero_linger();
        } else {
            let _best_effort = socket.shutdown().await;
        }
    }
}

/// The end that is decided for the connection; the proxy's own end cuts it.
async fn struck(fate: &mut watch::Receiver<Fate>) -> Fate {
    let end = fate.wait_for(|fate| matches!(fate, Fate::Cut | Fate::Reset)).await;
    end.map_or(Fate::Cut, |fate| *fate)
}
