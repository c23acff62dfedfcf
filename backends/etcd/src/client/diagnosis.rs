//! What stands at an address that does not speak as etcd does.
//!
//! A client of HTTP/2 that meets another protocol sees a frame that makes no sense, or the end of
//! the connection. So after the first failure on a connection that never worked, the server is
//! asked in two ways to which everything on such ports reacts: by a plain HTTP/1 request, and by
//! the beginning of a TLS handshake.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use fleetward_core::ErrorKind;

use super::failure::Failure;

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It wants TLS.
    Tls,
    /// etcd, without TLS.
    Etcd,
    Consul,
    /// Something else that speaks HTTP/1.
    Http1,
}

/// Adds to the failure what was found and what to write instead, where that says more.
pub(super) async fn explain(failure: Failure, url: &str) -> Failure {
    // Nothing answers, so nothing can be found.
    if failure.error.kind() == ErrorKind::Timeout {
        return failure;
    }
    let Some((scheme, authority)) = url.split_once("://") else { return failure };
    let found = timeout(PATIENCE, look(authority)).await.ok().flatten();
    let Some(advice) = found.and_then(|found| advice(found, scheme == "https")) else {
        return failure;
    };
    Failure { error: failure.error.with_context("found", advice), ..failure }
}

fn advice(found: Found, with_tls: bool) -> Option<&'static str> {
    match (found, with_tls) {
        (Found::Consul, _) => {
            Some("this is Consul's port: write consul:// (or etcd's host and port)")
        }
        (Found::Tls, false) => Some("the server speaks TLS on this port: write etcds://"),
        (Found::Etcd, true) => Some("etcd speaks without TLS on this port: write etcd://"),
        (Found::Http1, true) => {
            Some("no TLS is spoken on this port, but HTTP/1: is it etcd's port?")
        }
        (Found::Http1, false) => Some("this is a server of HTTP/1, not etcd: is it etcd's port?"),
        (Found::Tls, true) | (Found::Etcd, false) => None,
    }
}

async fn look(authority: &str) -> Option<Found> {
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n")
            .into_bytes()
    };
    // etcd answers this without a login.
    match tell(&ask(authority, &get("/version")).await?) {
        Some(Found::Http1) if is_consul(&ask(authority, &get("/v1/status/leader")).await?) => {
            Some(Found::Consul)
        }
        None => tell(&ask(authority, &client_hello()).await?),
        found => found,
    }
}

/// The beginning of a TLS handshake, without any extension: refused mostly, but in TLS.
fn client_hello() -> Vec<u8> {
    let record = [0x16, 3, 1, 0, 51];
    let hello = [1, 0, 0, 47, 3, 3];
    let random = [0x5a; 32];
    let session_ciphers_compression =
        [0, 0, 8, 0xc0, 0x2b, 0xc0, 0x2f, 0x00, 0x9c, 0x00, 0x2f, 1, 0];
    [&record[..], &hello, &random, &session_ciphers_compression].concat()
}

async fn ask(authority: &str, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(authority).await.ok()?;
    stream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    // Some servers answer and do not close; a reset takes nothing away of what has come.
    let mut stream = stream.take(MOST);
    let _end = timeout(PATIENCE / 4, stream.read_to_end(&mut answer)).await;
    Some(answer)
}

fn tell(answer: &[u8]) -> Option<Found> {
    // A TLS record of the kind alert, or handshake.
    if let [0x15 | 0x16, 0x03, ..] = answer {
        return Some(Found::Tls);
    }
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    if !text.starts_with("http/1.") {
        return None;
    }
    let is = |part: &str| text.contains(part);
    Some(match () {
        // Go's server, and nginx.
        () if is("http request to an https server")
            || is("http request was sent to https port") =>
        {
            Found::Tls
        }
        () if is("etcdserver") => Found::Etcd,
        () => Found::Http1,
    })
}

/// Consul says who leads, `"10.0.0.1:8300"`, to anybody.
fn is_consul(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let leader = body.trim().strip_prefix('"').and_then(|body| body.strip_suffix('"'));
    head.starts_with("HTTP/1.1 200") && leader.is_some_and(|at| at.is_empty() || at.contains(':'))
}

/// A server of the wrong kind answers at once; a failed call does not wait for long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Of an answer, its beginning says enough.
const MOST: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (answer, found) in [
            (&b"\x15\x03\x01\x00\x02\x02\x46"[..], Some(Found::Tls)),
            (b"\x16\x03\x03\x00\x57\x02", Some(Found::Tls)),
            (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", Some(Found::Tls)),
            (b"HTTP/1.1 200 OK\r\n\r\n{\"etcdserver\":\"3.5.16\"}", Some(Found::Etcd)),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Some(Found::Http1)),
            (b"", None),
            (b"\x00\x00\x12\x04", None),
            (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        ] {
            assert_eq!(tell(answer), found, "{answer:?}");
        }
        assert!(is_consul(b"HTTP/1.1 200 OK\r\n\r\n\"10.0.0.1:8300\"\n"));
        assert!(!is_consul(b"HTTP/1.1 200 OK\r\n\r\n<html>"));
    }
}
