//! One attempt: a connection, one request on it, and the head of the answer.
//!
//! Uses a warm connection where the caller allows its age, replaces one that turned out to be
//! closed before a byte of the request left (which is no retry: nothing was sent), and says of
//! every failure whether the upstream may have seen the request.

use crate::clock::{self, Duration, Instant};
use crate::policy::pace::Pace;
use crate::upstream::batch::after_the_others;
use crate::upstream::body::UpstreamBody;
use crate::upstream::connect::connect;
use crate::upstream::error::{SendError, SetBy, UpstreamError};
use crate::upstream::pool::{Care, Connection, Pool, Reuse};
use crate::upstream::request_body::{Progress, RequestBody};
use crate::upstream::resolve::Resolver;
use crate::upstream::target::Endpoint;
use crate::upstream::tls::Tls;
use crate::upstream::websocket;
use http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a sender needs to know of an upstream.
pub struct Link<'a> {
    /// Where to.
    pub endpoint: &'a Arc<Endpoint>,
    /// How TLS is spoken.
    pub tls: &'a Tls,
    /// This worker's connections.
    pub pool: &'a Arc<Pool>,
    /// Names to addresses.
    pub resolver: &'a Resolver,
    /// Whether another protocol is asked for: that takes its connection with it.
    pub upgrades: bool,
}

/// The waits of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// Names, TCP and TLS together.
    pub connect: Duration,
    /// From the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two chunks of the answer's body.
    pub idle: Duration,
    /// How slowly the request's body may come.
    pub upload: Pace,
    /// From arrival to the head of the answer, over all attempts.
    pub total: Duration,
    /// Who says so.
    pub set_by: SetBy,
    /// When `total` is over.
    pub deadline: Instant,
    /// Which kept connections it may have.
    pub reuse: Reuse,
}

impl Waits {
    /// Those of a request of our own, all of which may take so long: nobody's body is waited for, and it
    /// may have a connection that lay idle for at most `max_idle`.
    pub fn within(total: Duration, max_idle: Duration) -> Waits {
        Waits {
            connect: total,
            first_byte: total,
            idle: total,
            upload: Pace {
                pause: total,
                rate: 0,
            },
            total,
            set_by: SetBy::Configuration,
            deadline: clock::now() + total,
            reuse: Reuse {
                max_idle,
                look_after: Duration::ZERO,
                care: Care::None,
            },
        }
    }

    /// What an attempt ends with when `total` is over.
    pub fn over(&self) -> UpstreamError {
        UpstreamError::TotalTimeout {
            after: self.total,
            set_by: self.set_by,
        }
    }
}

/// Sends `request` and waits for the head of its answer. The request is taken out of its place when it
/// goes: handed on by value, it would be copied at every step down.
///
/// # Errors
/// What failed, and whether any byte of the request left.
pub async fn send(
    link: &Link<'_>,
    request: &mut Option<Request<RequestBody>>,
    waits: &Waits,
) -> Result<Response<UpstreamBody>, SendError> {
    let upload = request.as_ref().and_then(|r| r.body().progress());
    loop {
        let mut now = clock::now();
        // One that might be stale would lose a request for a tunnel.
        let warm = (!link.upgrades)
            .then(|| link.pool.take(link.endpoint, waits.reuse, now))
            .flatten();
        let mut connection = match warm {
            Some(warm) => warm,
            // Seldom, and large: what is kept for it would be kept for every request.
            None => match Box::pin(fresh(link, waits)).await {
                Ok(fresh) => {
                    now = clock::now();
                    fresh
                }
                Err(error) => return Err(SendError::unsent(error, request.take())),
            },
        };
        let before = connection.written();
        match exchange(&mut connection, request, (upload.as_deref(), now), waits).await {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let pool = Arc::clone(link.pool);
                return switch(link.upgrades, answer, |incoming| {
                    UpstreamBody::switched(incoming, connection, pool, waits.idle)
                });
            }
            Ok(answer) => return receive(link, connection, answer, upload, waits),
            Err(_) if request.is_some() && connection.reused() => {}
            Err(error) if request.is_some() => {
                return Err(SendError::unsent(error, request.take()));
            }
            Err(error) => {
                let sent = connection.written() != before;
                let reset = matches!(error, UpstreamError::Reset { .. });
                let stale = reset && connection.reused();
                if let (true, Some(idle)) = (reset, connection.idle()) {
                    link.pool.closed_after(idle);
                }
                let error = blame(error, upload.as_deref());
                return Err(SendError {
                    stale,
                    ..SendError::gone(error, sent)
                });
            }
        }
    }
}

async fn fresh(link: &Link<'_>, waits: &Waits) -> Result<Box<Connection>, UpstreamError> {
    let left = waits.deadline.saturating_duration_since(clock::now());
    let within = waits.connect.min(left);
    let connected = connect(link.endpoint, link.tls, link.resolver, within).await;
    connected.map_err(|error| match error {
        UpstreamError::ConnectTimeout { .. } if left < waits.connect => waits.over(),
        error => error,
    })
}

/// A failure that the client's own broken body caused is the client's.
fn blame(error: UpstreamError, upload: Option<&Progress>) -> UpstreamError {
    match upload {
        Some(upload) if upload.failed() => UpstreamError::BrokenBody,
        _ => error,
    }
}

/// Drives one request and answer on a connection, in this task alone. A request that provably never left
/// is put back into its place.
async fn exchange(
    connection: &mut Connection,
    request: &mut Option<Request<RequestBody>>,
    (upload, now): (Option<&Progress>, Instant),
    waits: &Waits,
) -> Result<Response<Incoming>, UpstreamError> {
    let Some(sent) = request.take() else {
        let why = "there was no request to send".to_owned();
        return Err(UpstreamError::Reset { why });
    };
    after_the_others().await;
    let mut answer = pin!(connection.sender.try_send_request(sent));
    let mut patience = Patience::new(upload, waits, now);
    let mut timer = pin!(tokio::time::sleep_until(patience.due.into()));
    std::future::poll_fn(|cx| {
        let over = connection.drive(cx);
        // The answer can only move when the connection is driven, so it needs no waker of its own.
        let mut quiet = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = answer.as_mut().poll(&mut quiet) {
            return Poll::Ready(answer.map_err(|mut e| {
                *request = e.take_message();
                receive_error(&e.into_error())
            }));
        }
        if over.is_ready() {
            let why = "it was closed before an answer".to_owned();
            return Poll::Ready(Err(UpstreamError::Reset { why }));
        }
        while timer.as_mut().poll(cx).is_ready() {
            match patience.out() {
                Some(error) => return Poll::Ready(Err(error)),
                None => timer.as_mut().reset(patience.due.into()),
            }
        }
        Poll::Pending
    })
    .await
}

/// How long to wait for the head of an answer: `first_byte` counts from the last byte sent.
struct Patience<'a> {
    upload: Option<&'a Progress>,
    seen: u64,
    waits: &'a Waits,
    began: Instant,
    due: Instant,
}

impl<'a> Patience<'a> {
    fn new(upload: Option<&'a Progress>, waits: &'a Waits, began: Instant) -> Self {
        let step = match upload {
            None => waits.first_byte,
            Some(_) => waits.first_byte.min(waits.upload.pause),
        };
        let due = (began + step).min(waits.deadline);
        Patience {
            upload,
            seen: 0,
            waits,
            began,
            due,
        }
    }

    /// Called when `due` has come: the error, or `None` with a later `due`.
    fn out(&mut self) -> Option<UpstreamError> {
        let now = clock::now();
        if now >= self.waits.deadline {
            return Some(self.waits.over());
        }
        let Some(upload) = self.upload else {
            return Some(UpstreamError::FirstByteTimeout {
                after: self.waits.first_byte,
            });
        };
        let due = match upload.ended_at() {
            Some(ended) => ended + self.waits.first_byte,
            None if upload.is_awaited()
                && self
                    .waits
                    .upload
                    .is_too_slow(upload.bytes(), now - self.began) =>
            {
                let why = "it came too slowly (the listener's limits.body_rate)".to_owned();
                return Some(UpstreamError::ClientBody { why });
            }
            None if upload.bytes() != self.seen => now + self.waits.upload.pause,
            None if !upload.is_awaited() => {
                let after = self.waits.upload.pause;
                return Some(UpstreamError::IdleTimeout { after });
            }
            None => {
                let why = format!("no byte of it came for {:?}", self.waits.upload.pause);
                return Some(UpstreamError::ClientBody { why });
            }
        };
        if due <= now {
            return Some(UpstreamError::FirstByteTimeout {
                after: self.waits.first_byte,
            });
        }
        self.seen = upload.bytes();
        self.due = due.min(self.waits.deadline);
        None
    }
}

/// The answer, unless its framing can be read in two ways: then the connection goes with it.
fn receive(
    link: &Link<'_>,
    mut connection: Box<Connection>,
    answer: Response<Incoming>,
    upload: Option<Arc<Progress>>,
    waits: &Waits,
) -> Result<Response<UpstreamBody>, SendError> {
    if let Some(why) = ambiguous(&answer) {
        let why = why.to_owned();
        return Err(SendError::gone(UpstreamError::Malformed { why }, true));
    }
    // The library would speak HTTP/1.0 on it from now on, and drop every body that is chunked.
    if answer.version() == Version::HTTP_10 {
        connection.use_up();
    }
    let (mut head, incoming) = answer.into_parts();
    // RFC 9110 8.6: there it may not be, and to a HEAD it would be passed on.
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let pool = Arc::clone(link.pool);
    let body = UpstreamBody::new(incoming, connection, pool, upload, waits.idle);
    Ok(Response::from_parts(head, body))
}

/// A 101: good only where the request asked for it and for this protocol, and from HTTP/1.1, since 1.0
/// has none. The connection goes with any other, since nobody knows what is spoken on it.
fn switch(
    asked: bool,
    answer: Response<Incoming>,
    body: impl FnOnce(Incoming) -> UpstreamBody,
) -> Result<Response<UpstreamBody>, SendError> {
    let fields = answer.headers();
    let framed = fields.contains_key(header::TRANSFER_ENCODING)
        || fields
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0");
    let old = answer.version() != Version::HTTP_11;
    if !asked || framed || old || !websocket::is_named(fields) {
        return Err(SendError::gone(UpstreamError::BadUpgrade, true));
    }
    Ok(answer.map(body))
}

/// RFC 9112 6.3: more than one way to find the end of a message is no message. The library looks at a length only where
/// a body follows; what it says of a body that is left out (HEAD, 304) goes on to the client and has to be as good.
fn ambiguous<B>(answer: &Response<B>) -> Option<&'static str> {
    let fields = answer.headers();
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Some("it repeats Content-Length");
    }
    if length.is_some_and(|length| !is_length(length.as_bytes())) {
        return Some("its Content-Length is no number of bytes");
    }
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match codings.next() {
        Some(_) if codings.next().is_some() => Some("it repeats Transfer-Encoding"),
        Some(_) if length.is_some() => Some("it has both Transfer-Encoding and Content-Length"),
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Some("its Transfer-Encoding is not chunked alone")
        }
        _ => None,
    }
}

/// One number, and no list of equal ones, in digits that 64 bits can hold whichever they are.
fn is_length(value: &[u8]) -> bool {
    (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

fn receive_error(e: &hyper::Error) -> UpstreamError {
    let why = match std::error::Error::source(e) {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    };
    if e.is_parse() {
        UpstreamError::Malformed { why }
    } else {
        UpstreamError::Reset { why }
    }
}
