//! A change of protocol, from the asking to the answer that agrees to it.
//!
//! WebSocket alone passes, and only where the request can be read in one way: without a body, in
//! HTTP/1.1. Whatever else asks for an upgrade loses the asking, as a hop-by-hop field, and goes on as
//! the request that it otherwise is. The tunnel begins with the upstream's own 101 and not before.

use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Answered;
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::tunnel::Tunnel;
use crate::proxy::{headers, mark, refused};
use crate::upstream::websocket;
use http::request::Parts;
use http::{HeaderMap, Method, Response, Version, header};

/// Whether a request asks for WebSocket, in a way that leaves nothing open (RFC 6455 4.1).
pub fn is_asked(head: &Parts) -> bool {
    let fields = &head.headers;
    fields.contains_key(header::UPGRADE)
        && head.method == Method::GET
        && head.version == Version::HTTP_11
        && !fields.contains_key(header::TRANSFER_ENCODING)
        && fields
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .all(|length| length == "0")
        && websocket::is_named(fields)
}

/// Asks the upstream, in fields that hold nothing of the client's connection any more.
pub fn ask(fields: &mut HeaderMap) {
    fields.remove(header::CONTENT_LENGTH);
    websocket::name(fields);
}

/// The upstream's 101, with the tunnel behind it.
pub(super) fn agreed(
    mut exchange: Box<Exchange>,
    (answer, attempt): Answered,
) -> Response<ResponseBody> {
    let (mut head, body) = answer.into_parts();
    let Some(end) = body.into_tunnel() else {
        let detail = "the connection to the upstream was gone when it switched protocols";
        return refused(exchange, &Refusal::new(Reason::Internal, detail), true);
    };
    let version = head.version;
    headers::strip(&mut head.headers, &exchange.table.plan.correlation.header);
    head.headers.remove(header::CONTENT_LENGTH);
    headers::add_via(&mut head.headers, version);
    exchange.status = Some(head.status);
    mark(&mut exchange, &mut head.headers, false);
    websocket::name(&mut head.headers);
    head.version = Version::HTTP_11;
    let tunnel = Tunnel::new(exchange, attempt, end);
    Response::from_parts(head, ResponseBody::tunnel(tunnel))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http::Request;
    use http::request::Builder;

    fn asked(build: Builder) -> bool {
        let build = build.header("connection", "upgrade");
        let build = build.header("upgrade", "websocket");
        is_asked(&build.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_get_without_a_body_asks() {
        assert!(asked(Request::get("/")));
        assert!(asked(Request::get("/").header("content-length", "0")));
    }

    #[test]
    fn another_method_version_or_a_body_does_not() {
        for bad in [
            Request::post("/"),
            Request::head("/"),
            Request::get("/").version(Version::HTTP_10),
            Request::get("/").version(Version::HTTP_2),
            Request::get("/").header("content-length", "1"),
            Request::get("/").header("content-length", "00"),
            Request::get("/").header("transfer-encoding", "chunked"),
        ] {
            let shown = format!("{bad:?}");
            assert!(!asked(bad), "{shown}");
        }
    }
}
