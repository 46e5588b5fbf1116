//! TLS towards clients: who we are is proven, who they are is asked where the file says so, and a certificate that
//! changes serves the next connection, unless it cannot be used.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::proxy::File;
use crate::support::verbs::verb_in;
use crate::support::*;

/// An authority, and what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for `localhost` and its key, in PEM form.
    pub fn sign(&self) -> (String, String) {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A proxy that speaks TLS with a certificate of `authority`; `keys` go into its listener.
fn serving(upstream: &Upstream, authority: &Authority, keys: &str) -> Proxy {
    let listener = "listen: [{ name: app, address: \"@LISTEN@\"";
    let tls = "tls: { certificate_file: cert.pem, key_file: key.pem";
    let yaml = format!(
        "{listener}, {tls}{keys} }}]\n{}",
        upstream_with(&upstream.url(), "forwarded: true")
    );
    let file = File::write(&yaml);
    let (certificate, key) = authority.sign();
    file.beside("cert.pem", &certificate);
    file.beside("key.pem", &key);
    file.beside("clients.pem", &authority.pem);
    Proxy::on(file, &[])
}

const NO_MORE: &str = " }";
const CLIENTS_TOO: &str = ", client_ca_file: clients.pem }";

/// What a client trusts, shows, and speaks.
pub fn config(
    authority: &Authority,
    shown: Option<(String, String)>,
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let pem = authority.pem.as_bytes();
    roots
        .add(CertificateDer::from_pem_slice(pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// One GET over a connection of its own. `None`: there was none to be had.
fn ask(address: SocketAddr, config: ClientConfig) -> Option<String> {
    asked_over(TcpStream::connect(address).unwrap(), config)
}

/// The same over a connection that is there.
fn asked_over(socket: TcpStream, config: ClientConfig) -> Option<String> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(connection, socket);
    let request = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    tls.write_all(request).ok()?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

#[test]
fn a_client_is_served_over_tls_and_the_upstream_learns_of_it() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, NO_MORE);
    let answer = ask(proxy.address(), config(&authority, None, &[b"http/1.1"])).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
        "{answer}"
    );
    let asked = upstream.only_request();
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
}

#[test]
fn http_2_is_chosen_by_alpn() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, NO_MORE);
    let config = config(&authority, None, &[b"h2", b"http/1.1"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let status = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address())
            .await
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = h2::client::handshake(tls).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::get("https://localhost/x").body(()).unwrap();
        let mut sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let status = answer.await.unwrap().status();
        driver.abort();
        status
    });
    assert_eq!(status, 200);
}

#[test]
fn a_client_that_has_chosen_http_2_speaks_nothing_else() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, NO_MORE);
    let config = config(&authority, None, &[b"h2"]);
    let answer = ask(proxy.address(), config);
    assert!(
        answer.is_none_or(|answer| !answer.starts_with("HTTP/1")),
        "the agreed protocol was not kept to"
    );
    assert_eq!(upstream.count(), 0);
}

#[test]
fn plain_text_gets_no_answer_on_a_tls_listener() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, NO_MORE);
    let mut client = proxy.connect();
    client.write("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (bytes, _) = client.drain();
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_client_that_cannot_show_the_certificate_asked_for_is_not_served() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, CLIENTS_TOO);
    let stranger = Authority::new();
    assert_eq!(ask(proxy.address(), config(&authority, None, &[])), None);
    let wrong = config(&authority, Some(stranger.sign()), &[]);
    assert_eq!(ask(proxy.address(), wrong), None);
    assert_eq!(upstream.count(), 0);
    let right = config(&authority, Some(authority.sign()), &[]);
    assert!(ask(proxy.address(), right).is_some());
}

#[test]
fn a_silent_client_is_cut_before_and_within_the_handshake() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let waits = format!("{NO_MORE}, timeouts: {{ first_byte: 300ms }}");
    let proxy = serving(&upstream, &authority, &waits);
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut client = proxy.connect();
        client.write(begun);
        assert!(client.closed(), "after {begun:?}");
    }
}

#[test]
fn a_new_pair_serves_the_next_connection_and_a_bad_one_none() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, NO_MORE);
    let directory = proxy.config().parent().unwrap().to_owned();
    let next = Authority::new();
    let (certificate, key) = next.sign();
    std::fs::write(directory.join("key.pem"), "this is no key").unwrap();
    assert_eq!(reloads(&proxy), (Some(0.0), Some(0.0)));
    until("the bad pair to be noticed", || {
        proxy.stderr().contains("cannot be used: the old one stays")
    });
    until("that to be counted", || reloads(&proxy).1 == Some(1.0));
    assert!(ask(proxy.address(), config(&authority, None, &[])).is_some());
    std::fs::write(directory.join("key.pem"), key).unwrap();
    std::fs::write(directory.join("cert.pem"), certificate).unwrap();
    until("the new pair to be served", || {
        ask(proxy.address(), config(&next, None, &[])).is_some()
    });
    assert_eq!(ask(proxy.address(), config(&authority, None, &[])), None);
    assert!(reloads(&proxy).0 >= Some(1.0));
}

/// Changes of the certificate that served, and that did not.
fn reloads(proxy: &Proxy) -> (Option<f64>, Option<f64>) {
    let metrics = proxy.metrics();
    let count = |result| {
        let labels = [("listener", "app"), ("result", result)];
        metrics.value("trunkline_certificate_reloads_total", &labels)
    };
    (count("success"), count("failure"))
}

/// More than a server reads of a handshake at once.
const MUCH: usize = 100_000;

#[test]
fn a_client_that_does_not_speak_tls_is_told_so_and_can_read_it() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, NO_MORE);
    let mut socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&[b'G'; MUCH]).unwrap();
    let mut alert = Vec::new();
    socket.read_to_end(&mut alert).unwrap();
    // A record that holds one fatal alert (RFC 8446 5.1, 6).
    assert_eq!((alert.len(), alert[0], alert[5]), (7, 21, 2), "{alert:?}");
}

#[test]
fn a_client_without_its_certificate_reads_why_it_is_not_served() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let proxy = serving(&upstream, &authority, CLIENTS_TOO);
    let name = ServerName::try_from("localhost").unwrap();
    let plain = Arc::new(config(&authority, None, &[]));
    let connection = ClientConnection::new(plain, name).unwrap();
    let socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(connection, socket);
    // It has sent its request before it can know.
    tls.write_all(&[b'G'; MUCH]).unwrap();
    let error = tls.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    assert_eq!(tls.sock.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_load_balancer_names_the_client_before_the_handshake() {
    let (upstream, authority) = (Upstream::answering("hello"), Authority::new());
    let keys = format!("{NO_MORE}, proxy_protocol: true");
    let proxy = serving(&upstream, &authority, &keys);
    let connect = |header: &[u8]| {
        let mut socket = TcpStream::connect(proxy.address()).unwrap();
        socket.write_all(header).unwrap();
        asked_over(socket, config(&authority, None, &[b"http/1.1"]))
    };
    let answer = connect(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n").unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let asked = upstream.only_request();
    assert_eq!(asked.header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
    assert_eq!(connect(b""), None, "a handshake is no header");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn files_that_cannot_be_used_are_problems_with_their_place() {
    let authority = Authority::new();
    let ((certificate, _), (_, other_key)) = (authority.sign(), authority.sign());
    let file = File::write(
        "
listen:
  - { name: a, address: \"127.0.0.1:1\", tls: { certificate_file: none.pem, key_file: key.pem } }
  - { name: b, address: \"127.0.0.1:2\", tls: { certificate_file: cert.pem, key_file: key.pem } }
  - { name: c, address: \"127.0.0.1:3\", tls: { certificate_file: cert.pem } }
  - { name: app, address: \"@LISTEN@\" }
routes:
  - { name: all, match: { path: / }, stub: { status: 200 } }
",
    );
    file.beside("cert.pem", &certificate);
    file.beside("key.pem", &other_key);
    let ended = verb_in(&file.path, &["check"], &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    for place in [":3:65: ", ":4:85: ", ":5:45: "] {
        assert!(ended.text().contains(place), "{place} in {}", ended.text());
    }
}

/// How long a socket is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_certificate_that_cannot_be_read_is_not_blamed_on_its_key() {
    let tls = "tls: { certificate_file: cert.pem, key_file: key.pem }";
    let file = File::write(&format!(
        "listen: [{{ name: app, address: \"@LISTEN@\", {tls} }}]\nroutes: [{{ name: a, stub: {{}} }}]\n"
    ));
    let (_, key) = Authority::new().sign();
    file.beside("key.pem", &key);
    let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    file.beside("cert.pem", broken);
    let ended = verb_in(&file.path, &["check"], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let what = "the file \"cert.pem\" cannot be used: its first certificate cannot be read";
    assert!(ended.stderr.contains(what), "{ended:?}");
    let (other, _) = Authority::new().sign();
    file.beside("cert.pem", &other);
    let ended = verb_in(&file.path, &["check"], &[]);
    let what = "the file \"key.pem\" cannot be used: it does not fit the certificate";
    assert!(ended.stderr.contains(what), "{ended:?}");
}
