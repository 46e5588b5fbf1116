//! What a trace says of an exchange and of each of its attempts, in OpenTelemetry's words.
//!
//! A SERVER span for the exchange, a CLIENT span for each attempt, both from facts that are known
//! anyway. Never a query, a header's value or a credential. Nothing here runs for a request that is
//! not kept.

use crate::live::Standing;
use crate::policy::outcome::Outcome;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Way;
use crate::telemetry::metrics::method_label;
use crate::telemetry::traces::{Span, Value};
use crate::upstream::body::UpstreamBody;
use crate::upstream::request_body::RequestBody;
use crate::upstream::target::Endpoint;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version, header};
use std::net::SocketAddr;

/// The span of an exchange that begins, if it is kept.
pub fn begin(exchange: &Exchange, head: &Parts) -> Option<Box<Span>> {
    let traces = exchange.worker.traces.as_ref()?;
    let sampler = exchange.table.plan.sampler;
    let mut span = traces.arriving(sampler, &head.headers, exchange.arrived)?;
    let named = head.headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let authority = named.or(head.uri.authority().map(|a| a.as_str()));
    if let Some(authority) = authority.and_then(|a| a.parse::<http::uri::Authority>().ok()) {
        span.text("server.address", authority.host());
        if let Some(port) = authority.port_u16() {
            span.number("server.port", port);
        }
    }
    Some(span)
}

/// Ends the span of an exchange.
pub fn end(exchange: &Exchange, mut span: Box<Span>) {
    let rule = exchange
        .route
        .and_then(|i| exchange.table.plan.matcher.rule(i));
    let pattern = rule.and_then(|rule| rule.path.as_ref()).map(|p| p.as_str());
    span.call(named(&exchange.method, pattern));
    method(&mut span, &exchange.method);
    let scheme = if exchange.client.tls { "https" } else { "http" };
    span.text("url.scheme", scheme);
    span.text("url.path", exchange.path());
    span.text("network.protocol.version", version(exchange.version));
    peer(&mut span, exchange.client.address);
    span.text("trunkline.correlation_id", exchange.id());
    span.text("trunkline.source", exchange.source.label());
    span.number("trunkline.attempts", exchange.attempts);
    let route = exchange.route().and_then(|r| exchange.table.route_plan(r));
    for (key, value) in [
        ("http.route", pattern),
        ("trunkline.route", route.map(|r| r.name.as_str())),
        ("trunkline.upstream", exchange.upstream_name()),
        ("trunkline.reason", exchange.reason),
    ] {
        if let Some(value) = value {
            span.text(key, value);
        }
    }
    let status = exchange.status;
    if let Some(status) = status {
        span.number("http.response.status_code", status.as_u16());
    }
    // A client that left, or asked for what it may not have, is no failure of this server.
    if status.is_some_and(|s| s.is_server_error()) || cut_short(exchange) {
        let status = status.as_ref().map_or("", StatusCode::as_str);
        span.fail(exchange.reason.unwrap_or(status), "");
    }
    span.end();
}

/// Whether an upstream's answer broke off on its way through.
fn cut_short(exchange: &Exchange) -> bool {
    let good = exchange.status.is_some_and(|s| s.as_u16() < 400);
    good && matches!(exchange.reason, Some("upstream_reset" | "upstream_timeout"))
}

/// The circuit let nothing through: told on the exchange's own span, as nothing was sent.
pub fn circuit_refused(exchange: &Exchange, standing: &Standing) {
    if let Some(span) = &exchange.span {
        let ids = standing.correlation_ids.join(",");
        let until = standing.until.as_deref().unwrap_or_default();
        let attributes = [
            ("trunkline.circuit.name", standing.name.as_str()),
            ("trunkline.circuit.state", standing.state.as_str()),
            ("trunkline.circuit.since", &standing.since),
            ("trunkline.circuit.until", until),
            ("trunkline.circuit.reason", &standing.reason),
            ("trunkline.circuit.last_error", &standing.last_error),
            ("trunkline.circuit.correlation_ids", &ids),
        ];
        let attributes = attributes.map(|(key, value)| (key, Value::Text(value)));
        span.event("trunkline.circuit_refused", &attributes);
    }
}

/// The span of an attempt that begins, if its exchange is kept; its request names it as the parent.
pub fn attempt(
    exchange: &Exchange,
    way: &Way<'_>,
    endpoint: &Endpoint,
    request: &mut Request<RequestBody>,
) -> Option<Box<Span>> {
    let mut span = Box::new(exchange.span.as_ref()?.sending());
    span.mark(request.headers_mut());
    span.call(named(request.method(), None));
    method(&mut span, request.method());
    let scheme = if endpoint.tls { "https" } else { "http" };
    let host = endpoint.host_field.to_str().unwrap_or_default();
    let path = request.uri().path();
    span.text("url.full", &format!("{scheme}://{host}{path}"));
    span.text("server.address", &endpoint.host);
    span.number("server.port", endpoint.port);
    span.text("trunkline.upstream", &way.upstream_plan.name);
    span.text("trunkline.correlation_id", exchange.id());
    let resent = exchange.attempts.saturating_sub(1);
    if resent > 0 {
        span.number("http.request.resend_count", resent);
    }
    Some(span)
}

/// An answer's head has come.
pub fn answered(span: &mut Span, answer: &Response<UpstreamBody>) {
    let status = answer.status();
    span.number("http.response.status_code", status.as_u16());
    span.text("network.protocol.version", version(answer.version()));
    if let Some(at) = answer.body().peer() {
        peer(span, at);
    }
    if status.is_client_error() || status.is_server_error() {
        span.fail(status.as_str(), "");
    }
}

/// It brought no answer, or only a part of one; `reason` is the word of a refusal.
pub fn lost(span: &mut Span, reason: &str, error: &str) {
    span.fail(reason, error);
}

/// Ends the span of an attempt.
pub fn settled(mut span: Box<Span>, outcome: Outcome) {
    span.text("trunkline.outcome", outcome.label());
    span.end();
}

fn named(method: &Method, pattern: Option<&str>) -> String {
    let method = match method_label(method) {
        "OTHER" => "HTTP",
        known => known,
    };
    match pattern {
        Some(pattern) => format!("{method} {pattern}"),
        None => method.to_owned(),
    }
}

fn method(span: &mut Span, method: &Method) {
    match method_label(method) {
        "OTHER" => {
            span.text("http.request.method", "_OTHER");
            span.text("http.request.method_original", method.as_str());
        }
        known => span.text("http.request.method", known),
    }
}

fn peer(span: &mut Span, at: SocketAddr) {
    span.text("network.peer.address", &at.ip().to_string());
    span.number("network.peer.port", at.port());
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
