//! WebSocket passes: asked for in one way only, agreed to by the upstream itself, and then bytes both ways until both
//! sides are done, with one access line at the end.

mod asking;
mod lasting;
mod passing;
mod real;

use crate::support::*;

/// A client's handshake (RFC 6455 1.3), its four fields in the order in which browsers send them.
fn handshake(target: &str) -> Request {
    get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// A tunnel through the proxy.
#[track_caller]
pub(crate) fn open(proxy: &Proxy, target: &str) -> Client {
    let mut client = proxy.connect();
    let answer = client.send(&handshake(target));
    assert_eq!(answer.status, 101, "{}{}", answer.head, answer.text());
    client
}

fn in_flight(proxy: &Proxy) -> Option<f64> {
    let labels = [("upstream", "up")];
    proxy.metrics().value("trunkline_in_flight", &labels)
}
