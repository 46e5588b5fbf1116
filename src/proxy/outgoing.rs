//! The request as it goes out: our Host, our Via, our correlation id, nothing of the client's
//! connection; once, and again where that is possible.
//!
//! A body passes through as it comes. For another attempt there is the request itself if it never
//! left, or a copy of a small body that was kept while it passed; otherwise there is none.

use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Way;
use crate::proxy::headers::{self, Forwarded};
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::upgrade;
use crate::routes::pattern::Params;
use crate::routes::plan::RoutePlan;
use crate::upstream::request_body::{Progress, RequestBody, Room};
use crate::upstream::target::{Endpoint, Target};
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, Version, header};
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::sync::Arc;

/// A body as it is handed over.
pub enum Load {
    /// As it comes.
    Stream(Option<Incoming>),
    /// As it comes, after what was read of it already.
    Begun(VecDeque<Bytes>, Incoming),
    /// All of it.
    Whole(Bytes),
}

/// A request that may go out more than once.
pub struct Outgoing {
    head: Option<Box<Parts>>,
    body: Body,
    progress: Option<Arc<Progress>>,
}

enum Body {
    /// Not begun, and what it may be.
    Fresh(VecDeque<Bytes>, Option<Incoming>, Room),
    /// On its way, or gone.
    Begun,
    /// The request itself, which never left.
    Returned(Box<Request<RequestBody>>),
    /// All of it, for as often as is needed.
    Whole(Bytes),
}

impl Outgoing {
    /// A request with this head and body; of a body that streams, `room.keep` bytes at most are kept
    /// for another attempt.
    pub fn new(head: Box<Parts>, load: Load, room: Room) -> Self {
        let body = match load {
            Load::Stream(incoming) => Body::Fresh(VecDeque::new(), incoming, room),
            Load::Begun(ahead, incoming) => {
                Body::Fresh(ahead, Some(incoming), Room { keep: 0, ..room })
            }
            Load::Whole(bytes) => Body::Whole(bytes),
        };
        Outgoing {
            head: Some(head),
            body,
            progress: None,
        }
    }

    /// The request for the next attempt. `last`: no other will be asked for after it.
    pub fn next(&mut self, last: bool) -> Option<Request<RequestBody>> {
        let body = match std::mem::replace(&mut self.body, Body::Begun) {
            Body::Returned(request) => return Some(*request),
            Body::Fresh(ahead, incoming, mut room) => {
                if last {
                    room.keep = 0;
                }
                let body = match incoming {
                    None => RequestBody::Empty,
                    Some(incoming) => RequestBody::streamed(ahead, incoming, room),
                };
                self.progress = body.progress();
                body
            }
            Body::Whole(bytes) => {
                let body = whole(&bytes);
                self.body = Body::Whole(bytes);
                body
            }
            Body::Begun => match &self.progress {
                None => RequestBody::Empty,
                Some(progress) => RequestBody::Whole(Some(progress.copy()?)),
            },
        };
        let head = if last {
            self.head.take()
        } else {
            self.head.clone()
        };
        head.map(|mut head| {
            name_coding(&mut head, &body);
            Request::from_parts(*head, body)
        })
    }

    /// Takes a request back that never left.
    pub fn put_back(&mut self, request: Box<Request<RequestBody>>) {
        if !matches!(self.body, Body::Whole(_)) || self.head.is_none() {
            self.body = Body::Returned(request);
        }
    }

    /// Whether there would be another request to send.
    pub fn is_replayable(&self) -> bool {
        match &self.body {
            Body::Fresh(..) | Body::Returned(_) => true,
            Body::Whole(_) => self.head.is_some(),
            Body::Begun => {
                self.head.is_some()
                    && self
                        .progress
                        .as_ref()
                        .is_none_or(|progress| progress.has_copy())
            }
        }
    }

    /// How far its body has come.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }
}

/// A body of unknown length is chunked. The HTTP library would drop that of a GET unless it is told so.
fn name_coding(head: &mut Parts, body: &RequestBody) {
    let streamed = matches!(body, RequestBody::Streamed { .. });
    if streamed && !head.headers.contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
}

fn whole(bytes: &Bytes) -> RequestBody {
    if bytes.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Whole(Some(bytes.clone()))
    }
}

/// Where it goes.
///
/// # Errors
/// `no_route`: the parameter in the host's place makes no host.
pub fn endpoint(
    way: &Way<'_>,
    params: &Params,
    path: &str,
    host: &str,
) -> Result<Arc<Endpoint>, Refusal> {
    let value = way.host_param.map(|slot| params.get(slot, path, host));
    way.upstream_plan.target.endpoint(value).ok_or_else(|| {
        let name = &way.upstream_plan.name;
        let detail = format!("upstream {name}: the request names no host that exists");
        Refusal::new(Reason::NoRoute, detail)
    })
}

/// Turns the client's head into the one that is sent. Whether it asks for another protocol.
///
/// # Errors
/// `bad_request`: the rewritten target is not one, or no hop is left.
pub fn prepare(
    exchange: &Exchange,
    way: &Way<'_>,
    entry: &Entry,
    params: &Params,
    (head, endpoint): (&mut Parts, &Endpoint),
) -> Result<bool, Refusal> {
    let target = target(
        &exchange.uri,
        &way.upstream_plan.target,
        way.route_plan,
        params,
    )?;
    let plan = &exchange.table.plan;
    let name = &plan.correlation.header;
    let identities = plan.clients.identity_headers();
    let deadline = way.route_plan.deadline.as_ref();
    let upgrades = upgrade::is_asked(head);
    let fields = &mut head.headers;
    if !headers::count_hop(&head.method, fields) {
        let detail = "the request's Max-Forwards is 0 and it is addressed to this proxy, which answers no such request";
        return Err(Refusal::new(Reason::BadRequest, detail));
    }
    headers::strip_with(fields, name, |field| {
        field == "expect"
            || field == "trunkline-confirmed-retry"
            || field == "trunkline-caller-token"
            || headers::tells_of_hops(field)
            || identities.iter().any(|identity| identity == field)
            || deadline.is_some_and(|deadline| deadline.name() == field)
    });
    if exchange.version == Version::HTTP_2 {
        headers::join_cookies(fields);
    }
    headers::add_via(fields, exchange.version);
    let reads = way.upstream_plan.profile.reads_bodies(&exchange.method);
    if reads || way.route_plan.back.is_some() {
        fields.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    if upgrades {
        upgrade::ask(fields);
    }
    fields.insert(header::HOST, host(way, entry, endpoint));
    fields.insert(name.clone(), exchange.correlation.clone());
    if way.upstream_plan.forwarded {
        headers::add_forwarded(fields, &forwarded(exchange, entry));
    }
    head.uri = target;
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(upgrades)
}

fn forwarded<'a>(exchange: &Exchange, entry: &'a Entry) -> Forwarded<'a> {
    let socket = exchange.client.address.ip();
    Forwarded {
        client: exchange.identity.as_ref().map_or(socket, |i| i.address),
        tls: exchange.client.tls,
        host: entry.authority(),
    }
}

/// The upstream's own Host, or the one that the client named where the upstream is to have that.
fn host(way: &Way<'_>, entry: &Entry, endpoint: &Endpoint) -> HeaderValue {
    let named = way.upstream_plan.preserve_host.then(|| entry.field());
    named
        .flatten()
        .unwrap_or_else(|| endpoint.host_field.clone())
}

/// The target as it is sent: the base of the upstream's URL, the path as matched or rewritten, and
/// the query, byte for byte.
fn target(uri: &Uri, target: &Target, route: &RoutePlan, params: &Params) -> Result<Uri, Refusal> {
    let sent = uri.path_and_query();
    if let (None, "", Some(sent)) = (&route.rewrite, target.base(), sent) {
        return Ok(Uri::from(sent.clone()));
    }
    let mut text = String::with_capacity(uri.path().len() + target.base().len() + 64);
    text.push_str(target.base());
    match &route.rewrite {
        Some(rewrite) => rewrite.apply(params, uri.path(), &mut text),
        None => text.push_str(uri.path()),
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(text))
        .map(Uri::from)
        .map_err(|e| {
            Refusal::new(
                Reason::BadRequest,
                format!("the rewritten target is not valid: {e}"),
            )
        })
}
