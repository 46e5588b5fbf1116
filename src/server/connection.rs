//! One client connection, from its first byte to its end.
//!
//! Finds out which protocol is spoken, serves it, and ends when the watch or a stop asks for it.

use crate::proxy::body::ResponseBody;
use crate::proxy::entry::Bounds;
use crate::proxy::{Arrived, Client, HangUp, Worker, handle, malformed};
use crate::routes::plan::{Listener, ListenerLimits};
use crate::server::answer::{Stream, Watched};
use crate::server::chunks::Framing;
use crate::server::frames::PREFACE;
use crate::server::gather::gather;
use crate::server::io::{ClientIo, HalfClosing, Transport};
use crate::server::proxy_protocol::{self, Unnamed};
use crate::server::tls::Keeper;
use crate::server::watch::{Busy, Order, Watch};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Serves one accepted connection.
pub async fn serve(tcp: TcpStream, address: SocketAddr, place: Place, watch: Arc<Watch>) {
    let Place {
        worker,
        listener,
        index,
        tls,
    } = place;
    let connections = &worker.table().live.metrics.connections;
    connections.fetch_add(1, Relaxed);
    let mut client = Client {
        address,
        listener: index,
        tls: tls.is_some(),
        bounds: Bounds {
            target: listener.limits.target,
            fields: listener.limits.fields,
        },
        pace: listener.pace(),
    };
    let live = Arc::clone(&worker.table().live);
    let limits = listener.limits;
    let greeted = pin!(async {
        let mut tcp = tcp;
        if listener.proxy_protocol {
            match named(&mut tcp, address, &worker).await {
                Ok(named) => client.address = named,
                Err(why) => return proxy_protocol::complain(&listener.name, address.ip(), &why),
            }
        }
        let transport = match &tls {
            None => Transport::Plain(tcp),
            Some(keeper) => match Box::pin(keeper.greet(tcp)).await {
                Ok(transport) => transport,
                Err((error, tcp)) => {
                    tracing::debug!(%address, %error, "a TLS handshake failed");
                    let transport = Transport::Plain(tcp);
                    let mut io = ClientIo::new(transport, Bytes::new(), Arc::clone(&watch), false);
                    io.shutdown().await.ok();
                    return;
                }
            },
        };
        speak(transport, client, worker, limits, Arc::clone(&watch)).await;
    });
    obey(&watch, greeted).await;
    watch.close();
    live.metrics.connections.fetch_sub(1, Relaxed);
}

/// Who the client is, by the PROXY protocol: whom its sender names, or the sender.
async fn named(
    tcp: &mut TcpStream,
    sender: SocketAddr,
    worker: &Worker,
) -> Result<SocketAddr, Unnamed> {
    if !worker.table().plan.clients.may_name_clients(sender.ip()) {
        return Err(Unnamed::Untrusted);
    }
    Ok(proxy_protocol::read(tcp).await?.unwrap_or(sender))
}

/// Which listener a connection came in by, and who serves it.
pub struct Place {
    /// The worker.
    pub worker: Arc<Worker>,
    /// The listener.
    pub listener: Arc<Listener>,
    /// Its number.
    pub index: u16,
    /// Its certificate, where it speaks TLS.
    pub tls: Option<Arc<Keeper>>,
}

/// Runs until done, or until the watch says that it is over.
async fn obey(watch: &Watch, mut work: Pin<&mut impl Future<Output = ()>>) {
    let mut known = false;
    std::future::poll_fn(|cx| {
        if !known {
            known = true;
            watch.wake_by(cx.waker());
        }
        if watch.order() == Order::End {
            return Poll::Ready(());
        }
        work.as_mut().poll(cx)
    })
    .await;
}

async fn speak(
    transport: Transport,
    client: Client,
    worker: Arc<Worker>,
    limits: ListenerLimits,
    watch: Arc<Watch>,
) {
    let mut transport = transport;
    let Ok((ahead, is_h2)) = first_bytes(&mut transport, &watch).await else {
        return;
    };
    let io = TokioIo::new(ClientIo::new(transport, ahead, Arc::clone(&watch), is_h2));
    if is_h2 {
        let here = Arc::clone(&watch);
        let service = service_fn(move |request: Request<Incoming>| {
            let (worker, here, busy) = (Arc::clone(&worker), Arc::clone(&here), here.begin());
            let arrived = Arrived::from(request);
            // On the heap: it is moved some times before it runs.
            Box::pin(async move {
                let answer = handle(&worker, &client, arrived).await?;
                Ok::<_, HangUp>(answer.map(|body| Stream::new(body, busy, &here)))
            })
        });
        return Box::pin(speak_h2(io.into_inner(), service, limits, &watch)).await;
    }
    let (here, recorder) = (Arc::clone(&watch), Arc::clone(&worker));
    let service = service_fn(move |request: Request<Incoming>| {
        here.request(framing(request.body()));
        let (worker, busy, arrived) = (Arc::clone(&worker), here.begin(), Arrived::from(request));
        // On the heap for as long as it runs: hyper keeps the room for one with the connection.
        Box::pin(answer(worker, client, arrived, busy))
    });
    match speak_h1(io, service, limits, &watch).await {
        Ok((mut io, early)) => {
            if let Some(tunnel) = watch.take_tunnel() {
                let _busy = watch.begin();
                Box::pin(tunnel.run(&mut HalfClosing(&mut io), early)).await;
            }
            io.shutdown().await.ok();
        }
        Err(error) => {
            if let Some(status) = answered_by_parser(&error) {
                malformed(&recorder, client, status);
            }
        }
    }
}

/// How the library found that a request's body is delimited.
fn framing(body: &Incoming) -> Framing {
    match body.size_hint().exact() {
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

#[allow(
    clippy::manual_async_fn,
    reason = "an async function holds its arguments twice; in this size the allocator is quick"
)]
fn answer(
    worker: Arc<Worker>,
    client: Client,
    arrived: Arrived,
    busy: Busy,
) -> impl Future<Output = Result<Response<Watched>, HangUp>> {
    async move {
        let old = arrived.version() == Version::HTTP_10;
        let mut answer = handle(&worker, &client, arrived).await?;
        if old && is_unmarked(&answer) {
            busy.leave_unmarked();
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(tunnel) = answer.body_mut().take_tunnel()
        {
            busy.switch(tunnel);
        } else if busy.is_last() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        Ok(answer.map(|body| Watched::new(body, busy)))
    }
}

/// Whether an HTTP/1.0 client can tell the end of it by the end of the connection alone.
fn is_unmarked(answer: &Response<ResponseBody>) -> bool {
    !answer.headers().contains_key(CONTENT_LENGTH) && answer.body().size_hint().exact().is_none()
}

/// Reads until it is clear whether the client speaks HTTP/2, by prior knowledge or because it chose it in its
/// handshake; having chosen it, it speaks nothing else.
async fn first_bytes(transport: &mut Transport, watch: &Watch) -> io::Result<(Bytes, bool)> {
    let mut ahead = BytesMut::with_capacity(4096);
    loop {
        if transport.read_buf(&mut ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        watch.read();
        let shared = ahead.len().min(PREFACE.len());
        if ahead.get(..shared) != PREFACE.get(..shared) {
            return Ok((ahead.freeze(), transport.chose_h2()));
        }
        if shared == PREFACE.len() {
            return Ok((ahead.freeze(), true));
        }
    }
}

type Io = TokioIo<ClientIo>;

/// Until the connection is over, or is to become something else: then with what the client has sent
/// beyond its last request.
async fn speak_h1<S>(
    io: Io,
    service: S,
    limits: ListenerLimits,
    watch: &Watch,
) -> Result<(ClientIo, Bytes), hyper::Error>
where
    S: hyper::service::HttpService<Incoming, ResBody = Watched>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(false)
        .max_headers(limits.fields)
        .max_header_size(limits.head)
        .max_buf_size(limits.head.max(8192));
    let mut connection = builder.serve_connection(io, service);
    let mut leaving = false;
    std::future::poll_fn(|cx| {
        if !leaving && watch.order() >= Order::Leave {
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await?;
    let parts = connection.into_parts();
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// The status of the bare answer that the HTTP parser gave, where it refused a head by itself.
fn answered_by_parser(e: &hyper::Error) -> Option<StatusCode> {
    if e.is_parse_too_large() {
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    } else if e.is_parse() {
        Some(StatusCode::BAD_REQUEST)
    } else {
        None
    }
}

async fn speak_h2<S>(io: ClientIo, service: S, limits: ListenerLimits, watch: &Watch)
where
    S: hyper::service::HttpService<Incoming, ResBody = Stream>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    let head = u32::try_from(limits.head).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(crate::clock::Duration::from_secs(30))
        .keep_alive_timeout(crate::clock::Duration::from_secs(20))
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(head)
        .max_frame_size(16 * 1024)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024);
    let (io, drain) = gather(io);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut leaving = false;
    let mut over = false;
    std::future::poll_fn(|cx| {
        if !leaving && watch.order() != Order::Go {
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
        over = over || connection.as_mut().poll(cx).is_ready();
        match drain.poll(cx) {
            Poll::Ready(Ok(())) if !over => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}
