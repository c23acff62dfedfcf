//! The two pages that are read from a server, `/health` and `/metrics`, without an HTTP client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The page's text; any status but 200 is an error. HTTP/1.0: the server closes after its answer.
pub(super) async fn get(server: SocketAddr, path: &str) -> io::Result<String> {
    let response = timeout(DEADLINE, async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        io::Result::Ok(response)
    })
    .await??;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    if head.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()))
    }
}

/// A server that does not answer in this time is asked again, or is paused.
const DEADLINE: Duration = Duration::from_millis(500);
