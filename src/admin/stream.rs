//! Server-sent events: what happened, and the page as it changes.
//!
//! A stream holds a seat and ends when its client leaves or stops reading. A listener that comes back
//! with `Last-Event-ID` hears what it missed, as far as that is still known.

use super::{Admin, problem};
use crate::clock::Duration;
use crate::live::events::Event;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// A sign of life after so long a silence.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// A client that has not read for so long has left.
const PATIENCE: Duration = Duration::from_secs(30);
const STILL_HERE: Bytes = Bytes::from_static(b": still here\n\n");

/// `GET /api/v1/events`: the last events first, then as they come.
pub async fn events(State(admin): State<Arc<Admin>>, fields: HeaderMap) -> Response {
    let Some(seat) = admin.viewers.sit() else {
        return no_seat();
    };
    let heard = fields
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let (listener, answer) = open(seat);
    tokio::spawn(tell(admin, listener, heard.unwrap_or(0)));
    answer
}

async fn tell(admin: Arc<Admin>, listener: Listener, mut heard: u64) {
    let live = Arc::clone(&admin.tables.load().live);
    let mut coming = live.events.listen();
    let mut due = live.events.last();
    loop {
        for event in due.iter().filter(|event| event.id > heard) {
            if !listener.send(event_frame(event)).await {
                return;
            }
        }
        heard = due.last().map_or(heard, |last| last.id.max(heard));
        due = match tokio::time::timeout(SIGN_OF_LIFE, coming.recv()).await {
            Ok(Ok(event)) => vec![event],
            Ok(Err(RecvError::Lagged(_))) => live.events.last(),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) if listener.send(STILL_HERE).await => Vec::new(),
            Err(_) => return,
        };
    }
}

fn event_frame(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    Bytes::from(format!(
        "id: {}\nevent: {}\ndata: {data}\n\n",
        event.id, event.kind
    ))
}

/// `GET /page/changes`: the parts of the page, all of them first, then those that change.
pub async fn page(State(admin): State<Arc<Admin>>) -> Response {
    let Some(seat) = admin.viewers.sit() else {
        return no_seat();
    };
    let (listener, answer) = open(seat);
    tokio::spawn(show(admin, listener));
    answer
}

async fn show(admin: Arc<Admin>, listener: Listener) {
    let (whole, mut changes) = admin.viewers.watch(&admin);
    let mut next = whole;
    while listener.send(next).await {
        next = match changes.recv().await {
            Ok(bytes) => bytes,
            Err(RecvError::Lagged(_)) => admin.viewers.whole(),
            Err(RecvError::Closed) => return,
        };
    }
}

fn no_seat() -> Response {
    let detail = "too many streams are open; close one, or ask /api/v1/status";
    problem(StatusCode::SERVICE_UNAVAILABLE, detail)
}

struct Listener {
    sender: mpsc::Sender<Bytes>,
    _seat: OwnedSemaphorePermit,
}

impl Listener {
    /// False: there is nobody any more.
    async fn send(&self, bytes: Bytes) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.sender.send(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }
}

fn open(seat: OwnedSemaphorePermit) -> (Listener, Response) {
    let (sender, receiver) = mpsc::channel(16);
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let answer = (fields, Body::new(Stream(receiver))).into_response();
    let listener = Listener {
        sender,
        _seat: seat,
    };
    (listener, answer)
}

struct Stream(mpsc::Receiver<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|b| Ok(Frame::data(b))))
    }
}
