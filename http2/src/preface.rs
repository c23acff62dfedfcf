//! The moment at which a server has shown that it speaks HTTP/2.
//!
//! A client's handshake is done when the client's own preface is written: a black hole that only
//! accepts TCP connections would count as connected. A server's first frame must be SETTINGS (RFC
//! 9113, 3.4), so its header is watched for as it passes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

const FRAME_HEADER: usize = 9;
const SETTINGS: u8 = 4;

/// What a server's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spoken {
    /// HTTP/2's SETTINGS.
    Http2,
    /// HTTP/1.
    Http1,
    /// A record of TLS: mostly an alert, because nobody speaks TLS with it.
    Tls,
    /// None of these.
    SomethingElse,
}

impl Spoken {
    /// Of as many bytes as there are, up to the header of a frame; `None` if that is too few to tell.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            // As a frame's these lengths would be beyond what we allow.
            [0x14..=0x17, 3, _, ..] => Some(Self::Tls),
            [b'H', b'T', b'T', b'P', b'/', ..] => Some(Self::Http1),
            [_, _, _, SETTINGS, _, 0, 0, 0, 0] => Some(Self::Http2),
            [_, _, _, _, _, _, _, _, _] => Some(Self::SomethingElse),
            _ => None,
        }
    }
}

/// Passes everything on and tells what the first bytes are: nine at the most, the header of a frame.
pub(crate) struct Preface<T> {
    inner: T,
    header: [u8; FRAME_HEADER],
    seen: usize,
    told: Option<oneshot::Sender<Spoken>>,
}

impl<T> Preface<T> {
    pub(crate) fn watch(inner: T) -> (Self, oneshot::Receiver<Spoken>) {
        let (told, receiver) = oneshot::channel();
        (Self { inner, header: [0; FRAME_HEADER], seen: 0, told: Some(told) }, receiver)
    }

    fn look(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(FRAME_HEADER - self.seen);
        self.header[self.seen..self.seen + take].copy_from_slice(&bytes[..take]);
        self.seen += take;
        if let Some(spoken) = Spoken::of(&self.header[..self.seen])
            && let Some(told) = self.told.take()
        {
            // Nobody listens any more if the dial was given up.
            let _ = told.send(spoken);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Preface<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.told.is_some() {
            self.look(&buffer.filled()[before..]);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Preface<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
