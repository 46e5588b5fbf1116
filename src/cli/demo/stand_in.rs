//! A vendor that does what the story needs: answers, fails, or takes a call and loses the answer.

use crate::clock::Duration;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It answers.
    Well = 0,
    /// It answers 500.
    Failing = 1,
    /// It carries a create out and hangs up before it has answered.
    Forgetful = 2,
}

/// A vendor.
pub(super) struct StandIn {
    mood: AtomicU8,
    created: AtomicU64,
    asked: AtomicU64,
}

impl StandIn {
    /// One that is well.
    pub(super) fn new() -> Arc<StandIn> {
        Arc::new(StandIn {
            mood: AtomicU8::new(Mood::Well as u8),
            created: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        })
    }

    /// From now on it is like this.
    pub(super) fn be(&self, mood: Mood) {
        self.mood.store(mood as u8, Relaxed);
    }

    /// The calls that it has placed.
    pub(super) fn created(&self) -> u64 {
        self.created.load(Relaxed)
    }

    /// The requests that have reached it.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Relaxed) == mood as u8
    }

    /// Answers whoever comes, until it is dropped.
    pub(super) async fn serve(self: Arc<Self>, socket: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((tcp, _)) = socket.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let vendor = Arc::clone(&self);
            let service = service_fn(move |request| Arc::clone(&vendor).answer(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            connections.spawn(connection);
            while connections.try_join_next().is_some() {}
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> io::Result<Response<Full<Bytes>>> {
        self.asked.fetch_add(1, Relaxed);
        let creates = request.method() == Method::POST;
        let lost = || io::Error::from(io::ErrorKind::ConnectionReset);
        request.into_body().collect().await.map_err(|_| lost())?;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(15..70))).await;
        if self.is(Mood::Failing) {
            let body = "{\"message\":\"the stand-in is down\"}";
            return Ok(json(StatusCode::INTERNAL_SERVER_ERROR, body));
        }
        if creates {
            self.created.fetch_add(1, Relaxed);
            if self.is(Mood::Forgetful) {
                return Err(lost());
            }
            return Ok(json(
                StatusCode::CREATED,
                "{\"id\":\"call-1\",\"status\":\"queued\"}",
            ));
        }
        Ok(json(StatusCode::OK, "{\"status\":\"fine\"}"))
    }
}

fn json(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    let media = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, media);
    answer
}
