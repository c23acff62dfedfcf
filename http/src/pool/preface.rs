//! How an HTTP/2 connection begins.

use fleetward_core::{Error, ErrorKind};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::Wire;

/// What a client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A SETTINGS frame that says no more than that the server is to push nothing. hyper's own follows.
const SETTINGS: &[u8; 15] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];

const TYPE_SETTINGS: u8 = 4;
const TYPE_GOAWAY: u8 = 7;
const FLAG_ACK: u8 = 1;

/// A frame is no longer than this, for we allow no other.
const LONGEST_FRAME: usize = 16 * 1024;

/// So much may come in before the server has confirmed.
const MOST_AHEAD: usize = 64 * 1024;

/// Exchanges prefaces with the server, so that nothing of a request is sent before it has confirmed that it
/// speaks HTTP/2. hyper would send the first request along with the preface: then a server that is silent, or
/// speaks something else, may have got it.
///
/// What the server has sent by then is read again by hyper, but for the acknowledgement of our SETTINGS;
/// hyper's own preface is left out.
pub(super) async fn exchange<T>(io: T, agreed: bool) -> Result<Wire<T>, Error>
where
    T: Read + Write + Unpin,
{
    let mut io = TokioIo::new(io);
    let lost = |error| lost(error, agreed);
    io.write_all(&[&PREFACE[..], SETTINGS].concat()).await.map_err(lost)?;
    io.flush().await.map_err(lost)?;
    let mut ahead = Vec::new();
    while ahead.len() <= MOST_AHEAD {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.map_err(lost)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, is_ack) = (head[3], head[4] & FLAG_ACK != 0);
        if ahead.is_empty() && (kind != TYPE_SETTINGS || is_ack) || length > LONGEST_FRAME {
            return Err(not_http2(&head, agreed));
        }
        match kind {
            TYPE_SETTINGS if is_ack => {
                return Ok(Wire::begun(io.into_inner(), ahead.into(), PREFACE.len()));
            }
            TYPE_GOAWAY => break,
            _ => {}
        }
        ahead.extend_from_slice(&head);
        let begin = ahead.len();
        ahead.resize(begin + length, 0);
        io.read_exact(&mut ahead[begin..]).await.map_err(lost)?;
    }
    Err(Error::new(ErrorKind::Unavailable, "the server refused the HTTP/2 connection"))
}

fn lost(error: std::io::Error, agreed: bool) -> Error {
    let message =
        format!("the connection was closed before the server spoke HTTP/2: {}", hint(agreed));
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

fn not_http2(begin: &[u8], agreed: bool) -> Error {
    let what = if begin.starts_with(b"HTTP/1") { "HTTP/1" } else { "something else" };
    let message = format!("the server speaks {what} and not HTTP/2: {}", hint(agreed));
    Error::new(ErrorKind::Unavailable, message)
}

fn hint(agreed: bool) -> &'static str {
    match agreed {
        true => "TLS had agreed on HTTP/2 by ALPN",
        false => {
            "`with_http2_only` is HTTP/2 by prior knowledge, without asking; leave it off for HTTP/1.1, or \
             for what TLS agrees on by ALPN"
        }
    }
}
