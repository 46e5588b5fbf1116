//! One request and its answer, from arrival to the last byte.
//!
//! An exchange holds what every later step needs to know and nothing that a step could decide. It
//! travels on the answer's body and, when that is gone, counts and logs itself, once, however the
//! exchange ended: answered, refused, cut short, or left by the client.

use crate::clock::{self, Duration, Instant};
use crate::guard::Account;
use crate::policy::identity::Identity;
use crate::policy::rate_limit::Decision;
use crate::proxy::again::Telling;
use crate::proxy::correlation;
use crate::proxy::readdress::Readdress;
use crate::proxy::{Client, Worker, traced};
use crate::routes::plan::{Accept, UpstreamPlan};
use crate::routes::table::{Route, Table};
use crate::telemetry::access::{Caller, Format, Line};
use crate::telemetry::handles::CacheResult;
use crate::telemetry::metrics::Source;
use crate::telemetry::traces::Span;
use crate::telemetry::traces::context::{Parent, TRACEPARENT};
use crate::upstream::error::SetBy;
use crate::upstream::request_body::Progress;
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::body::Incoming;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A request, its head in one place from here on: by value, it would be copied at every step down.
pub struct Arrived {
    pub(super) head: Box<Parts>,
    pub(super) body: Incoming,
}

impl From<Request<Incoming>> for Arrived {
    fn from(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let mut head = Box::new(head);
        if head.method == Method::OPTIONS && lacks_path(&head) {
            ask_server(&mut head.uri);
        }
        Arrived { head, body }
    }
}

impl Arrived {
    /// Which HTTP its client speaks.
    pub fn version(&self) -> Version {
        self.head.version
    }
}

/// Whether an absolute target had no path. The library gives it a slash, which lies elsewhere: a path that was sent lies
/// behind the authority, except in HTTP/2, where each is a field of its own and the path is never empty.
fn lacks_path(head: &Parts) -> bool {
    let target = &head.uri;
    let (Some(_), Some(authority)) = (target.scheme(), target.authority()) else {
        return false;
    };
    let behind = authority.as_str().as_bytes().as_ptr_range().end;
    head.version != Version::HTTP_2
        && target.query().is_none()
        && target.path() == "/"
        && target.path().as_ptr() != behind
}

/// OPTIONS of a target without a path means the whole server (RFC 9112 3.2.4).
fn ask_server(target: &mut Uri) {
    let mut parts = std::mem::take(target).into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    *target = Uri::from_parts(parts).unwrap_or_default();
}

/// A route has at most this many limits whose state an answer shows.
pub const SHOWN_LIMITS: usize = 4;

/// What stands for the status of an answer that its client did not wait for.
const CLIENT_GONE: u16 = 499;

/// One request on its way.
pub struct Exchange {
    /// The table that this exchange sees, from first to last.
    pub table: Arc<Table>,
    /// The worker it runs on.
    pub worker: Arc<Worker>,
    /// Where it came from.
    pub client: Client,
    /// When it arrived.
    pub arrived: Instant,
    /// What ties it together.
    pub correlation: HeaderValue,
    /// What it says of the trace it belongs to, where a trace or the log is to have it.
    pub trace: Option<HeaderValue>,
    /// Its span, where it is traced and kept.
    pub span: Option<Box<Span>>,
    /// Its method.
    pub method: Method,
    /// Its target as sent.
    pub uri: Uri,
    /// Its version.
    pub version: Version,
    /// Index of its route.
    pub route: Option<usize>,
    /// Who called, once a limit or the log has asked.
    pub identity: Option<Identity>,
    /// What its limits said.
    pub decisions: [Option<Decision>; SHOWN_LIMITS],
    /// How long it may take to the head of its answer, where the caller says so itself.
    pub deadline: Option<Duration>,
    /// Attempts at the upstream.
    pub attempts: u32,
    /// Who answers.
    pub source: Source,
    /// Why, where the answer is ours or was cut short.
    pub reason: Option<&'static str>,
    /// Why it was not its own upstream that answered, for the client.
    pub proxy_status: Option<HeaderValue>,
    /// The answer's status, once there is one.
    pub status: Option<StatusCode>,
    /// Cancelled when the client leaves, where its leaving does not end the exchange.
    pub left: Option<CancellationToken>,
    /// Turns the addresses of its answer to ours.
    pub readdress: Option<Box<Readdress>>,
    /// The request's body, where all of it was read before it was sent on.
    pub held: Option<Bytes>,
    /// Who is to be told what was answered to the event that it tells of.
    pub event: Option<Telling>,
    /// How far the request's body has come.
    pub upload: Option<Arc<Progress>>,
    /// Bytes that the client sent, in a body that was held or through a tunnel.
    pub bytes_in: u64,
    /// Bytes of the answer's body so far.
    pub bytes_out: u64,
    /// What a cache had to do with it, for the client (RFC 9211).
    pub cache_status: Option<HeaderValue>,
    /// And for the log.
    pub cache_result: Option<CacheResult>,
    /// Whether no client waits for it: then it is neither counted nor logged.
    pub unattended: bool,
    /// Further facts for the log.
    pub notes: Vec<(&'static str, Cow<'static, str>)>,
}

impl Exchange {
    /// An exchange that begins now.
    pub fn begin(worker: &Arc<Worker>, client: Client, head: &Parts) -> Box<Self> {
        let table = worker.table();
        let correlation = correlation_id(&table, client.address.ip(), &head.headers);
        let asked = (head.method.clone(), head.uri.clone(), head.version);
        let mut exchange = Self::untouched((table, Arc::clone(worker)), client, correlation, asked);
        if worker.traces.is_some() || exchange.table.plan.access_log != Format::Off {
            exchange.trace = head.headers.get(&TRACEPARENT).cloned();
        }
        exchange.span = traced::begin(&exchange, head);
        exchange
    }

    /// An exchange on the same errand that no client waits for. It is not traced, unless it is given
    /// the span.
    pub fn behind(&self) -> Box<Self> {
        let place = (Arc::clone(&self.table), Arc::clone(&self.worker));
        let asked = (self.method.clone(), self.uri.clone(), self.version);
        let mut behind = Self::untouched(place, self.client, self.correlation.clone(), asked);
        behind.arrived = self.arrived;
        behind.trace = self.trace.clone();
        behind.route = self.route;
        behind.unattended = true;
        behind
    }

    /// An exchange of which nothing is decided yet.
    fn untouched(
        (table, worker): (Arc<Table>, Arc<Worker>),
        client: Client,
        correlation: HeaderValue,
        (method, uri, version): (Method, Uri, Version),
    ) -> Box<Self> {
        Box::new(Exchange {
            table,
            worker,
            client,
            arrived: clock::now(),
            correlation,
            trace: None,
            span: None,
            method,
            uri,
            version,
            route: None,
            identity: None,
            decisions: [None; SHOWN_LIMITS],
            deadline: None,
            attempts: 0,
            source: Source::Proxy,
            reason: None,
            proxy_status: None,
            status: None,
            left: None,
            readdress: None,
            held: None,
            event: None,
            upload: None,
            bytes_in: 0,
            bytes_out: 0,
            cache_status: None,
            cache_result: None,
            unattended: false,
            notes: Vec::new(),
        })
    }

    /// Takes over what was learnt on its errand by the one behind it.
    pub fn learn(&mut self, behind: &mut Exchange) {
        self.span = behind.span.take();
        self.attempts = behind.attempts;
        self.source = behind.source;
        self.reason = self.reason.or(behind.reason);
        self.proxy_status = behind.proxy_status.take();
        self.cache_status = behind.cache_status.take();
        self.cache_result = behind.cache_result;
        self.notes.append(&mut behind.notes);
    }

    /// Its route.
    pub fn route(&self) -> Option<&Route> {
        self.table.routes.get(self.route?)
    }

    /// How long it may take from its arrival to the head of its answer, and who says so: the caller
    /// may lower what is configured.
    pub fn allowance(&self, total: Duration) -> (Duration, SetBy) {
        match self.deadline {
            Some(own) if own < total => (own, SetBy::Caller),
            _ => (total, SetBy::Configuration),
        }
    }

    /// Its path, as sent.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Its correlation id as text.
    pub fn id(&self) -> &str {
        self.correlation.to_str().unwrap_or_default()
    }

    /// On whose account it acts: that of the credential which we add, by its name and whatever its
    /// secret is today, or of what the client sent.
    pub fn account(&self, fields: &HeaderMap) -> Account {
        match self.route().and_then(|route| route.credential.as_ref()) {
            Some(credential) => Account::injected(&credential.name),
            None => Account::sent(fields),
        }
    }

    /// Its route's upstream, as planned.
    pub fn upstream_plan(&self) -> Option<&UpstreamPlan> {
        self.table.upstream_plan(self.route()?.upstream.as_ref()?)
    }

    /// The name of its route's upstream.
    pub fn upstream_name(&self) -> Option<&str> {
        Some(self.upstream_plan()?.name.as_str())
    }

    fn finish(&self, traced: Option<&str>) {
        if self.unattended {
            return;
        }
        let took = clock::now().saturating_duration_since(self.arrived);
        let status = self.status.or(StatusCode::from_u16(CLIENT_GONE).ok());
        let status = status.unwrap_or_default();
        let metrics = self.route().map_or(&self.table.unrouted, |r| &r.metrics);
        metrics.answered(&self.method, status, self.source, took);
        let format = self.table.plan.access_log;
        if format == Format::Off {
            return;
        }
        let gone = self.status.is_none().then_some("client_gone");
        let extra: Vec<(&'static str, &str)> = self
            .notes
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let address = self.client.address.ip();
        let shown = self.identity.as_ref().map(Identity::shown);
        let client = match (self.identity.as_ref().and_then(Identity::ipv4), &shown) {
            (Some(address), _) => Caller::V4(address),
            (None, Some(shown)) => Caller::Other(shown),
            (None, None) => Caller::Other(&address),
        };
        let line = Line {
            at: clock::wall(),
            correlation_id: self.id(),
            client,
            method: self.method.as_str(),
            path: self.path(),
            route: self
                .route()
                .and_then(|r| self.table.route_plan(r))
                .map(|r| r.name.as_str()),
            upstream: self.upstream_name(),
            status: status.as_u16(),
            source: self.source.label(),
            reason: self.reason.or(gone),
            attempts: self.attempts,
            took,
            bytes_in: self.upload.as_ref().map_or(self.bytes_in, |u| u.bytes()),
            bytes_out: self.bytes_out,
            trace_id: traced.or_else(|| self.trace.as_ref().and_then(trace_id)),
            cache: self.cache_result.map(CacheResult::label),
            extra: &extra,
        };
        self.worker.log.append(format, &line);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let span = self.span.take();
        let traced = span.as_ref().map(|span| span.trace_id());
        self.finish(traced.as_deref());
        if let Some(span) = span {
            traced::end(self, span);
        }
    }
}

/// The trace id of a `traceparent` field (W3C Trace Context 3.2), if it is well formed.
fn trace_id(field: &HeaderValue) -> Option<&str> {
    Parent::read(field)?;
    field.to_str().ok()?.get(3..35)
}

/// The id that the request offers, if its sender is one to take it from; else a new one.
fn correlation_id(table: &Table, socket: IpAddr, fields: &HeaderMap) -> HeaderValue {
    let settings = &table.plan.correlation;
    let believed = match settings.accept {
        Accept::Anyone => true,
        Accept::TrustedProxies => table.plan.clients.is_trusted(socket),
        Accept::Nobody => false,
    };
    believed
        .then(|| correlation::offered(fields, &settings.header))
        .flatten()
        .unwrap_or_else(correlation::mint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sound_trace_id_is_logged() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read =
            |text: &'static str| trace_id(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(
            read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(),
            Some(id)
        );
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
