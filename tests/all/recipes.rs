//! What a reader copies: servers that answer without waiting for a delayed ACK.
//!
//! A server that accepts without `TCP_NODELAY` holds a small answer back while an earlier one is unconfirmed. The
//! benchmarks' servers set it, so every recipe has to.

use std::fs;
use std::path::{Path, PathBuf};

use axum::serve::{Listener, ListenerExt};
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::TcpIncoming;

/// Sources and documents, but not what only tests run.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "tests"].contains(&&*name) {
                texts(&path, found);
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// What stands behind each place where `start` does, without white space.
fn behind<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = String> + 'a {
    let after = |at: usize| text[at + start.len()..].chars();
    text.match_indices(start)
        .map(move |(at, _)| after(at).filter(|c| !c.is_whitespace()).take(200).collect())
}

#[test]
fn no_recipe_serves_without_nodelay() {
    let mut found = Vec::new();
    texts(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    let mut recipes = 0;
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for call in behind(&text, "TcpIncoming::from(") {
            let options = call.split_once(')').unwrap().1;
            assert!(options.starts_with(".with_nodelay(Some(true))"), "{}", path.display());
            recipes += 1;
        }
        for _ in behind(&text, "axum::serve(") {
            let set = behind(&text, ".tap_io(").any(|tap| tap.contains("set_nodelay(true)"));
            assert!(set, "{}", path.display());
            recipes += 1;
        }
        assert!(!text.contains("TcpListenerStream::new("), "{}", path.display());
    }
    // README, benchmarks, the greeter, examples/http.rs and the page of the crate for HTTP.
    assert!(recipes >= 5, "only {recipes} found");
}

#[tokio::test]
async fn what_the_recipes_use_sets_it_on_every_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let _client = TcpStream::connect(address).await.unwrap();
    let accepted = incoming.next().await.unwrap().unwrap();
    assert!(accepted.nodelay().unwrap());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = listener.tap_io(|connection| {
        connection.set_nodelay(true).ok();
    });
    let _client = TcpStream::connect(address).await.unwrap();
    let (accepted, _) = listener.accept().await;
    assert!(accepted.nodelay().unwrap());
}
