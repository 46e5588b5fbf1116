//! Answers that lead around us: addresses of the vendor in them become ours again.
//!
//! `Location`, `Link` and the members that the profile names are turned where a route of ours leads to
//! the same place; every other byte stays as it came. They become the address under which the listener
//! is known, by its `public_url` or else by what the client called it. A `Location` or `Link` without a
//! host is turned where it would miss the route's prefix. The body is edited while it passes, so its
//! length is not known and a validator that promised bytes promises no more than meaning. The upstream
//! is asked for a plain body, since one that is encoded would have to be decoded whole chunks at a time
//! and encoded again; one that is encoded all the same passes unchanged, and so does a part of a body.

use crate::profile::addresses::{Place, Scanner};
use crate::proxy::Client;
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::routes::back::Addressed;
use crate::routes::plan::RoutePlan;
use crate::routes::table::Table;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use std::sync::Arc;

/// Fields whose value is a digest of bytes that will not be sent (RFC 9530, and its forerunners).
static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// What is needed to turn the addresses of an answer.
pub struct Readdress {
    table: Arc<Table>,
    places: Arc<[Place]>,
    client: Client,
    method: Method,
    authority: Box<str>,
    /// The route, and the path that the client asked for.
    asked: (usize, Uri),
}

/// Has the addresses of the answer turned, where the route asks for it; the client addressed us by
/// `authority`.
pub fn begin(exchange: &mut Exchange, plan: &RoutePlan, authority: &str) {
    let upstream = plan
        .upstream
        .and_then(|index| exchange.table.plan.upstreams.get(index));
    if let (Some(_), Some(upstream), Some(route)) = (&plan.back, upstream, exchange.route) {
        exchange.readdress = Some(Box::new(Readdress {
            table: Arc::clone(&exchange.table),
            places: Arc::clone(&upstream.profile.rules().addresses),
            client: exchange.client,
            method: exchange.method.clone(),
            authority: authority.into(),
            asked: (route, exchange.uri.clone()),
        }));
    }
}

impl Readdress {
    /// The answer, with addresses of ours.
    pub fn apply(self, answer: Response<ResponseBody>) -> Response<ResponseBody> {
        let (mut head, body) = answer.into_parts();
        self.fields(&mut head.headers);
        let edits = head.status != StatusCode::PARTIAL_CONTENT
            && !self.places.is_empty()
            && is_plain_json(&head.headers);
        if head.status == StatusCode::NOT_MODIFIED {
            weaken(&mut head.headers);
        }
        if !edits || head.status == StatusCode::NOT_MODIFIED {
            return Response::from_parts(head, body);
        }
        weaken(&mut head.headers);
        for name in [header::CONTENT_LENGTH, header::ACCEPT_RANGES]
            .iter()
            .chain(&DIGESTS)
        {
            head.headers.remove(name);
        }
        if self.method == Method::HEAD {
            return Response::from_parts(head, body);
        }
        Response::from_parts(head, body.edited(Edit::new(self)))
    }

    fn fields(&self, fields: &mut HeaderMap) {
        let location = fields
            .get(header::LOCATION)
            .and_then(|field| field.to_str().ok());
        let ours = location.and_then(|address| self.reference(address));
        if let Some(ours) = ours.and_then(|ours| HeaderValue::from_str(&ours).ok()) {
            fields.insert(header::LOCATION, ours);
        }
        if fields.contains_key(header::LINK) {
            let links = fields.get_all(header::LINK).iter().cloned();
            let links: Vec<HeaderValue> = links.map(|link| self.link(link)).collect();
            fields.remove(header::LINK);
            for link in links {
                fields.append(header::LINK, link);
            }
        }
    }

    /// A `Link` field (RFC 8288 3) with its targets turned.
    fn link(&self, field: HeaderValue) -> HeaderValue {
        let Ok(text) = field.to_str() else {
            return field;
        };
        let mut out = String::with_capacity(text.len());
        let mut left = text;
        while let Some((before, rest)) = left.split_once('<') {
            let Some((address, after)) = rest.split_once('>') else {
                break;
            };
            let ours = self.reference(address);
            out.push_str(before);
            out.push('<');
            out.push_str(ours.as_deref().unwrap_or(address));
            out.push('>');
            left = after;
        }
        out.push_str(left);
        HeaderValue::from_str(&out).unwrap_or(field)
    }

    fn ours(&self, address: &str) -> Option<String> {
        self.table.plan.way_back(address, &self.addressed())
    }

    /// The same for what may lack a scheme, or a host as well (RFC 3986 4.1).
    fn reference(&self, address: &str) -> Option<String> {
        if address.starts_with("//") {
            let mut schemes = ["https:", "http:"].iter();
            return schemes.find_map(|scheme| self.ours(&format!("{scheme}{address}")));
        }
        let (route, uri) = &self.asked;
        let here = || {
            let asked = (*route, uri.path());
            self.table.plan.way_here(asked, address, &self.addressed())
        };
        self.ours(address).or_else(here)
    }

    fn addressed(&self) -> Addressed<'_> {
        let listeners = &self.table.plan.process.listeners;
        let listener = listeners.get(usize::from(self.client.listener));
        Addressed {
            tls: self.client.tls,
            authority: &self.authority,
            listener: self.client.listener,
            public: listener.and_then(|listener| listener.public_url.as_ref()),
        }
    }
}

/// An answer's body on its way through the scanner.
pub struct Edit {
    readdress: Readdress,
    scanner: Scanner,
}

impl Edit {
    fn new(readdress: Readdress) -> Self {
        let scanner = Scanner::new(Arc::clone(&readdress.places));
        Edit { readdress, scanner }
    }

    /// The next chunk.
    pub fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let readdress = &self.readdress;
        self.scanner.feed(chunk, &mut |text| readdress.ours(text))
    }

    /// What was held back when the body ended.
    pub fn end(&mut self) -> Bytes {
        self.scanner.end()
    }
}

/// Whether a body can be read as it comes.
fn is_plain_json(fields: &HeaderMap) -> bool {
    let coded = fields.get_all(header::CONTENT_ENCODING).iter();
    let mut coded = coded.filter(|c| !c.as_bytes().eq_ignore_ascii_case(b"identity"));
    let media = fields
        .get(header::CONTENT_TYPE)
        .and_then(|media| media.to_str().ok());
    let media = media
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let media = media.to_ascii_lowercase();
    coded.next().is_none() && (media == "application/json" || media.ends_with("+json"))
}

/// A strong validator stands for bytes, and these are others (RFC 9110 8.8.1). Conditions on reading
/// compare weakly, so they go on to work.
fn weaken(fields: &mut HeaderMap) {
    let tag = fields.get(header::ETAG).map(HeaderValue::as_bytes);
    if let Some(tag) = tag.filter(|tag| !tag.starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat())
    {
        fields.insert(header::ETAG, weak);
    }
}
