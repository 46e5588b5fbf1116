//! A real client and a real server, plain and over TLS on both sides: messages small, large and fragmented, pings, and
//! a close with its code.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::proxy::File;
use crate::support::*;
use crate::tls_listener::{Authority, config};

/// Sends back every message until the client closes.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut socket = accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message).await.unwrap();
        }
    }
}

/// Speaks with the echo and closes.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    let large = vec![7u8; 3 << 20];
    for message in [
        Message::text("{\"event\":\"connected\"}"),
        Message::binary(Vec::<u8>::new()),
        Message::binary(large),
    ] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping(vec![1, 2].into())).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_pong());
    let goodbye = CloseFrame {
        code: CloseCode::Away,
        reason: "done".into(),
    };
    socket.close(Some(goodbye.clone())).await.unwrap();
    let last = socket.next().await.unwrap().unwrap();
    assert_eq!(last, Message::Close(Some(goodbye)));
    assert!(socket.next().await.is_none());
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() });
}

#[test]
fn a_real_client_and_server_speak_through_it() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
        let proxy = tokio::task::spawn_blocking(move || Proxy::start(straight_to_url(&url)));
        let proxy = proxy.await.unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        let (socket, _) = client_async("ws://app.example/chat", stream).await.unwrap();
        converse(socket).await;
        server.await.unwrap();
    });
}

/// What a server shows.
fn server_config((certificate, key): &(String, String)) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

#[test]
fn a_real_client_and_server_speak_through_it_over_tls_on_both_sides() {
    let authority = Authority::new();
    let pair = authority.sign();
    let (client_tls, server_tls) = (config(&authority, None, &[]), server_config(&pair));
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let tcp = listener.accept().await.unwrap().0;
            let tls = TlsAcceptor::from(Arc::new(server_tls)).accept(tcp).await;
            echo(tls.unwrap()).await;
        });
        let url = format!("https://localhost:{port}");
        let yaml = format!(
            "listen: [{{ name: app, address: \"@LISTEN@\", tls: {{ certificate_file: cert.pem, key_file: key.pem }} }}]\n{}",
            upstream_with(&url, "tls: { ca_file: ca.pem }")
        );
        let file = File::write(&yaml);
        file.beside("ca.pem", &authority.pem);
        file.beside("cert.pem", &pair.0);
        file.beside("key.pem", &pair.1);
        let proxy = tokio::task::spawn_blocking(move || Proxy::on(file, &[]));
        let proxy = proxy.await.unwrap();
        let tcp = TcpStream::connect(proxy.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client_tls));
        let tls = connector.connect(name, tcp).await.unwrap();
        let (socket, _) = client_async("wss://localhost/chat", tls).await.unwrap();
        converse(socket).await;
        server.await.unwrap();
    });
}
