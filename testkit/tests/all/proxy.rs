//! The fault proxy, between a client and a server that echoes.

use std::io::{self, ErrorKind};
use std::time::Duration;

use fleetward_testkit::eventually;
use fleetward_testkit::proxy::FaultProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);
/// Long enough for anything that is not held up to arrive.
const NOTHING: Duration = Duration::from_millis(150);

/// An echo server with a proxy in front of it.
struct Echo {
    proxy: FaultProxy,
    _server: JoinSet<()>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let proxy = FaultProxy::start(listener.local_addr().expect("it is bound")).await;
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ended = tokio::io::copy(&mut from, &mut to).await;
                // The end is echoed as well.
                let _ended = to.shutdown().await;
            });
        }
    });
    Echo { proxy, _server: server }
}

impl Echo {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.addr()).await.expect("the proxy accepts")
    }

    /// A connection over which something went both ways.
    async fn connected(&self) -> TcpStream {
        let mut stream = self.connect().await;
        said(&mut stream, b"hello").await.expect("it is echoed");
        stream
    }
}

/// Says something and hears it again.
async fn said(stream: &mut TcpStream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    let mut heard = vec![0; words.len()];
    timeout(5 * SECOND, stream.read_exact(&mut heard)).await.expect("nothing came back")?;
    assert_eq!(heard, words);
    Ok(())
}

/// What a read gives, which has to come soon.
async fn end(stream: &mut TcpStream) -> io::Result<usize> {
    timeout(5 * SECOND, stream.read(&mut [0; 64])).await.expect("the connection does not end")
}

async fn hears_nothing(stream: &mut TcpStream) {
    let heard = timeout(NOTHING, stream.read(&mut [0; 64])).await;
    assert!(heard.is_err(), "{heard:?} came through");
}

#[tokio::test]
async fn it_carries_bytes_and_ends_both_ways_and_counts() {
    let echo = echo().await;
    let mut streams = [echo.connected().await, echo.connected().await];
    assert_eq!((echo.proxy.open_connections(), echo.proxy.accepted()), (2, 2));
    let big: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let (mut from, mut to) = streams[0].split();
    let (sent, heard) = tokio::join!(
        async {
            to.write_all(&big).await?;
            to.shutdown().await
        },
        async {
            let mut heard = Vec::new();
            from.read_to_end(&mut heard).await.map(|_| heard)
        }
    );
    sent.expect("it is taken");
    assert!(heard.expect("the end comes back") == big);
    eventually("one connection is left", SECOND, async || echo.proxy.open_connections() == 1).await;
    assert_eq!(echo.proxy.accepted(), 2);
}

#[tokio::test]
async fn what_the_client_has_closed_is_not_counted_though_the_server_holds_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let proxy = FaultProxy::start(listener.local_addr().expect("it is bound")).await;
    let client = TcpStream::connect(proxy.addr()).await.expect("the proxy listens");
    let (mut held, _) = listener.accept().await.expect("the proxy comes");
    assert_eq!(proxy.open_connections(), 1);
    drop(client);
    eventually("it is not counted", 5 * SECOND, async || proxy.open_connections() == 0).await;
    assert_eq!(end(&mut held).await.expect("the server is told"), 0);
    // It is still there to be struck.
    proxy.reset();
    let gone = async || held.try_write(b"an answer").is_err();
    eventually("the server sees the reset", 5 * SECOND, gone).await;
}

#[tokio::test]
async fn a_cut_closes_what_is_open_and_nothing_else() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.cut();
    assert_eq!(end(&mut stream).await.expect("an orderly end"), 0);
    echo.connected().await;
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.reset();
    let error = end(&mut stream).await.expect_err("not an orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    echo.connected().await;
}

#[tokio::test]
async fn half_open_swallows_for_good_and_tells_nobody() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.half_open();
    stream.write_all(b"is anybody there?").await.expect("the kernel takes it");
    hears_nothing(&mut stream).await;
    echo.proxy.heal().await;
    stream.write_all(b"and now?").await.expect("the kernel takes it");
    hears_nothing(&mut stream).await;
    echo.connected().await;
    // Its end is not told either.
    drop(stream);
    assert!(echo.proxy.open_connections() >= 1);
    echo.proxy.cut();
    eventually("all are gone", SECOND, async || echo.proxy.open_connections() == 0).await;
}

#[tokio::test]
async fn swallowing_takes_new_connections_in_too_until_it_heals() {
    let echo = echo().await;
    echo.proxy.swallow();
    let mut stream = echo.connect().await;
    stream.write_all(b"hello?").await.expect("the kernel takes it");
    hears_nothing(&mut stream).await;
    echo.proxy.heal().await;
    echo.connected().await;
}

#[tokio::test]
async fn refusing_keeps_what_is_open_and_accepting_begins_again() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.refuse().await;
    let refused = TcpStream::connect(echo.proxy.addr()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    said(&mut stream, b"still here").await.expect("it is echoed");
    echo.proxy.accept().await;
    echo.connected().await;
}

#[tokio::test]
async fn latency_is_added_each_way_and_does_not_add_up() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.set_latency(SECOND / 10);
    let begun = Instant::now();
    said(&mut stream, b"one").await.expect("it is echoed");
    let once = begun.elapsed();
    assert!(once >= SECOND / 5, "{once:?}");
    // Messages follow one another on the line.
    let begun = Instant::now();
    let (mut from, mut to) = stream.split();
    let send = async {
        for _ in 0..10 {
            to.write_all(b"x").await.expect("it is taken");
            tokio::time::sleep(SECOND / 50).await;
        }
    };
    let mut heard = [0; 10];
    let (_, read) = tokio::join!(send, from.read_exact(&mut heard));
    read.expect("all is echoed");
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn bandwidth_is_limited() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.set_bandwidth(100_000);
    let begun = Instant::now();
    said(&mut stream, &[7; 50_000]).await.expect("it is echoed");
    assert!(begun.elapsed() >= SECOND * 9 / 20, "{:?}", begun.elapsed());
    echo.proxy.heal().await;
    let begun = Instant::now();
    said(&mut stream, &[7; 50_000]).await.expect("it is echoed");
    assert!(begun.elapsed() < SECOND * 9 / 20, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn slices_come_one_by_one() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    echo.proxy.set_slices(3);
    stream.write_all(&[7; 30]).await.expect("it is taken");
    let (mut reads, mut all) = (0, 0);
    while all < 30 {
        all += end(&mut stream).await.expect("it is echoed");
        reads += 1;
    }
    assert!(reads > 3, "30 bytes in slices of 3 came in {reads} reads");
}

/// "Refused" is not "free": the port is somebody else's soon on a busy machine.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn it_keeps_its_address_while_it_refuses() {
    let echo = echo().await;
    echo.proxy.refuse().await;
    let error = TcpStream::connect(echo.proxy.addr()).await.expect_err("it refuses");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let other = TcpSocket::new_v4().expect("a socket");
    other.set_reuseaddr(false).expect("a new socket may say so");
    let taken = other.bind(echo.proxy.addr()).expect_err("it is the proxy's");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    echo.proxy.accept().await;
    echo.connected().await;
}

#[tokio::test]
async fn a_target_that_refuses_is_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let proxy = FaultProxy::start(listener.local_addr().expect("it is bound")).await;
    drop(listener);
    let mut stream = TcpStream::connect(proxy.addr()).await.expect("the proxy accepts");
    let error = end(&mut stream).await.expect_err("there is no server");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn its_end_is_the_connections_end() {
    let echo = echo().await;
    let mut stream = echo.connected().await;
    let address = echo.proxy.addr();
    drop(echo);
    assert_eq!(end(&mut stream).await.expect("an orderly end"), 0);
    eventually("nobody listens", SECOND, async || TcpStream::connect(address).await.is_err()).await;
}
