//! A client of the proxy in front of the demo: one request, one connection.

use crate::clock::{self, Duration};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The longest a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
pub(super) struct Reply {
    /// The status code.
    pub(super) status: u16,
    /// How long it took.
    pub(super) took: Duration,
    /// The body; null where it is no JSON.
    pub(super) body: Value,
}

impl Reply {
    /// A member of the body, as text.
    pub(super) fn word(&self, name: &str) -> &str {
        let member = self.body.get(name).and_then(Value::as_str);
        member.unwrap_or_default()
    }
}

/// Asks `address`; a body makes it a POST.
pub(super) async fn call(
    address: SocketAddr,
    path: &str,
    client: &str,
    body: Option<&'static str>,
) -> Result<Reply, String> {
    let began = clock::now();
    let exchange = tokio::time::timeout(PATIENCE, exchange(address, path, client, body));
    let (status, bytes) = match exchange.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => return Err(format!("{address}{path}: {e}")),
        Err(_) => return Err(format!("{address}{path}: no answer within {PATIENCE:?}")),
    };
    Ok(Reply {
        status,
        took: clock::now().saturating_duration_since(began),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    })
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    client: &str,
    body: Option<&'static str>,
) -> anyhow::Result<(u16, Bytes)> {
    let tcp = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    let request = Request::builder()
        .method(if body.is_some() { "POST" } else { "GET" })
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header("x-client-id", client)
        .body(Full::new(Bytes::from_static(
            body.unwrap_or_default().as_bytes(),
        )))?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, bytes))
    };
    let (answer, _) = tokio::join!(answered, connection);
    answer
}
