//! An answer from the cache on its way to the client: its head as it was kept, with its age and how it
//! came to be given (`Cache-Status`, RFC 9211); a 304 where the client has it already.
//!
//! Chooses no answer. The body is the kept one itself or the one that others read along, never a copy.

use crate::cache::{Asked, Head, Kept, Reader, age, not_modified};
use crate::clock::{self, Instant};
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::{local, mark};
use crate::telemetry::access::push_number;
use crate::telemetry::handles::CacheResult;
use crate::telemetry::metrics::Source;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

/// An answer that is given from the cache.
pub struct Given {
    status: StatusCode,
    fields: HeaderMap,
    body: GivenBody,
}

enum GivenBody {
    Whole(Bytes),
    /// As it comes, of that length where it is known.
    Shared(Reader, Option<u64>),
}

/// How an answer came to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is kept and fresh.
    Hit,
    /// It is kept and stale, and another is being fetched.
    WhileRevalidating,
    /// Another replica has kept it, and it is fresh.
    Shared,
    /// The origin has confirmed it.
    Confirmed,
    /// It answers another's request too.
    Coalesced,
    /// It came from the origin and is being kept; why it was fetched, as a parameter.
    Fetched(&'static str),
}

impl Given {
    /// A kept answer.
    pub fn kept(exchange: &mut Exchange, entry: &Kept, asked: &Asked, how: How) -> Given {
        Given::at(exchange, entry, asked, (how, clock::now()))
    }

    /// The same at this time.
    pub fn at(
        exchange: &mut Exchange,
        entry: &Kept,
        asked: &Asked,
        (how, now): (How, Instant),
    ) -> Given {
        let left = entry.head.freshness.left(now).as_secs();
        let stale = entry.head.freshness.stale_for(now).as_secs();
        let (status, result) = match how {
            How::WhileRevalidating => (
                format!("trunkline; hit; ttl=-{stale}; detail=\"stale while revalidating\""),
                CacheResult::Stale,
            ),
            How::Shared => (
                format!("trunkline; hit; ttl={left}; detail=\"kept by a replica\""),
                CacheResult::Hit,
            ),
            How::Confirmed => (
                format!("trunkline; fwd=stale; fwd-status=304; ttl={left}"),
                CacheResult::Revalidated,
            ),
            How::Coalesced => (
                format!("trunkline; fwd=stale; fwd-status=304; ttl={left}; collapsed"),
                CacheResult::Coalesced,
            ),
            _ => (hit(left), CacheResult::Hit),
        };
        tell(exchange, status, result);
        Given::of(exchange, entry, (asked, now))
    }

    /// A kept answer in place of one that the upstream did not give, for this reason.
    pub fn instead(exchange: &mut Exchange, entry: &Kept, asked: &Asked, why: &str) -> Given {
        let now = clock::now();
        let stale = entry.head.freshness.stale_for(now).as_secs();
        let came = match exchange.attempts {
            0 => "hit",
            _ => "fwd=stale",
        };
        let status = format!("trunkline; {came}; ttl=-{stale}; detail=\"stale, {why}\"");
        tell(exchange, status, CacheResult::Stale);
        Given::of(exchange, entry, (asked, now))
    }

    fn of(exchange: &mut Exchange, entry: &Kept, (asked, now): (&Asked, Instant)) -> Given {
        exchange.source = Source::Cache;
        let head = &entry.head;
        let mut given = match asked.has(head) {
            true => Given {
                status: StatusCode::NOT_MODIFIED,
                fields: not_modified(head),
                body: GivenBody::Whole(Bytes::new()),
            },
            false => Given {
                status: head.status,
                fields: head.fields.clone(),
                body: GivenBody::Whole(entry.body.clone()),
            },
        };
        if exchange.method == Method::HEAD && given.status != StatusCode::NOT_MODIFIED {
            let length = HeaderValue::from(entry.body.len());
            given.fields.insert(header::CONTENT_LENGTH, length);
            given.body = GivenBody::Whole(Bytes::new());
        }
        given.fields.insert(header::AGE, age(&head.freshness, now));
        given
    }

    /// An answer that comes and is being kept.
    pub fn streamed(
        exchange: &mut Exchange,
        head: &Head,
        asked: &Asked,
        (reader, how): (Reader, How),
    ) -> Given {
        let code = head.status.as_u16();
        match how {
            How::Fetched(why) => {
                exchange.source = Source::Upstream;
                let status = format!("trunkline; fwd={why}; fwd-status={code}; stored");
                tell(exchange, status, CacheResult::Miss);
            }
            _ => {
                exchange.source = Source::Cache;
                let status = format!("trunkline; fwd=uri-miss; fwd-status={code}; collapsed");
                tell(exchange, status, CacheResult::Coalesced);
            }
        }
        if asked.has(head) {
            return Given {
                status: StatusCode::NOT_MODIFIED,
                fields: not_modified(head),
                body: GivenBody::Whole(Bytes::new()),
            };
        }
        let length = head.fields.get(header::CONTENT_LENGTH);
        let length = length.and_then(|l| l.to_str().ok()?.parse().ok());
        let mut fields = head.fields.clone();
        if how == How::Coalesced {
            fields.insert(header::AGE, age(&head.freshness, clock::now()));
        }
        Given {
            status: head.status,
            fields,
            body: GivenBody::Shared(reader, length),
        }
    }
}

fn tell(exchange: &mut Exchange, status: String, result: CacheResult) {
    exchange.cache_status = HeaderValue::from_maybe_shared(Bytes::from(status)).ok();
    super::note(exchange, result);
}

/// What is said of most answers by far: its text is written into just the room that it takes.
fn hit(left: u64) -> String {
    const SAYS: &str = "trunkline; hit; ttl=";
    let digits = left.checked_ilog10().unwrap_or(0) + 1;
    let mut text = String::with_capacity(SAYS.len() + digits as usize);
    text.push_str(SAYS);
    push_number(&mut text, left);
    text
}

/// Gives it.
pub fn respond(mut exchange: Box<Exchange>, given: Given, close: bool) -> Response<ResponseBody> {
    match given.body {
        GivenBody::Whole(body) => local(exchange, (given.status, given.fields), body, close),
        GivenBody::Shared(reader, length) => {
            let mut answer = Response::new(());
            *answer.status_mut() = given.status;
            *answer.headers_mut() = given.fields;
            exchange.status = Some(given.status);
            mark(&mut exchange, answer.headers_mut(), close);
            let (head, ()) = answer.into_parts();
            Response::from_parts(head, ResponseBody::shared(reader, length, exchange))
        }
    }
}
