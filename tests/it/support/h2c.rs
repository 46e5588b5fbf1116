//! A client for HTTP/2 without TLS, with prior knowledge: real h2 frames, one connection for all the requests of a
//! call. Used where the proxy's translation to HTTP/1.1 is the promise.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::wait::PATIENCE;

/// An answer over h2, or the reason why there was none.
pub type Answer = Result<http::Response<Vec<u8>>, String>;

/// Sends all requests at once over one connection and yields the answers in the same order.
pub fn exchange(address: SocketAddr, requests: Vec<http::Request<Vec<u8>>>) -> Vec<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut running = Vec::new();
        for request in requests {
            running.push(tokio::spawn(one(sender.clone(), request)));
        }
        let mut answers = Vec::new();
        for exchange in running {
            let answer = tokio::time::timeout(PATIENCE, exchange).await;
            answers.push(answer.map_or_else(
                |_| Err("no answer in time".to_owned()),
                |done| done.unwrap(),
            ));
        }
        driver.abort();
        answers
    })
}

async fn one(sender: h2::client::SendRequest<Bytes>, request: http::Request<Vec<u8>>) -> Answer {
    let mut sender = sender.ready().await.map_err(|error| error.to_string())?;
    let (parts, body) = request.into_parts();
    let request = http::Request::from_parts(parts, ());
    let (answer, mut sending) = sender
        .send_request(request, body.is_empty())
        .map_err(|error| error.to_string())?;
    if !body.is_empty() {
        sending
            .send_data(Bytes::from(body), true)
            .map_err(|error| error.to_string())?;
    }
    let (parts, mut stream) = answer
        .await
        .map_err(|error| error.to_string())?
        .into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.map_err(|error| error.to_string())?;
        stream
            .flow_control()
            .release_capacity(chunk.len())
            .map_err(|error| error.to_string())?;
        body.extend_from_slice(&chunk);
    }
    Ok(http::Response::from_parts(parts, body))
}
