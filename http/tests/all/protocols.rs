//! Servers that speak something else: the error names it.

use std::sync::Arc;

use fleetward_core::Instance;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::generate_simple_self_signed;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::support::*;

/// What the error of a call says.
async fn said(instance: Instance) -> String {
    let client = builder([instance]).build();
    get(&client, "/").await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_port_for_tls_is_named() {
    let certified = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            assert!(acceptor.accept(stream).await.is_err());
        }
    });
    let error = said(instance).await;
    assert!(error.contains("does not speak HTTP/1: is it a port for TLS"), "{error}");
}

#[tokio::test]
async fn a_server_of_http2_alone_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            });
            let _refused = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    let error = said(instance).await;
    assert!(error.contains("HTTP/2 only does (`with_http2_only`)"), "{error}");
}
