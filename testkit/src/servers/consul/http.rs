//! Consul's HTTP API, without an HTTP client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The status and the text of an answer. HTTP/1.0: the server closes after it.
pub(super) async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> io::Result<(u16, String)> {
    let response = timeout(DEADLINE, async {
        let mut stream = TcpStream::connect(server).await?;
        let token = token.map(|token| format!("X-Consul-Token: {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\n{token}Content-Length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        io::Result::Ok(String::from_utf8_lossy(&response).into_owned())
    })
    .await??;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no HTTP status in the answer"))?;
    Ok((status, body.to_owned()))
}

/// An agent that does not answer in this time is asked again, or is paused.
const DEADLINE: Duration = Duration::from_secs(2);
