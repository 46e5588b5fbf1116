//! The operator's API: reads of the state, events as they come, and the guarded writes.

use super::{Admin, json, problem, status};
use crate::clock::{self, Duration};
use crate::policy::breaker::Forced;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// An override lasts at most this long.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest body of a write, in bytes.
const LARGEST: usize = 16 * 1024;

/// `GET /api/v1/status`.
pub async fn status(State(admin): State<Arc<Admin>>) -> Response {
    json(StatusCode::OK, &status::whole(&admin))
}

/// `GET /api/v1/breakers`.
pub async fn breakers(State(admin): State<Arc<Admin>>) -> Response {
    json(
        StatusCode::OK,
        &Value::Array(status::breakers(&admin.tables.load())),
    )
}

/// `GET /api/v1/routes`.
pub async fn routes(State(admin): State<Arc<Admin>>) -> Response {
    json(
        StatusCode::OK,
        &Value::Array(status::routes(&admin.tables.load())),
    )
}

/// `POST /-/reload`.
pub async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    tracing::info!("reload asked for through the admin listener");
    let reloader = Arc::clone(&admin.reloader);
    match tokio::task::spawn_blocking(move || reloader.reload()).await {
        Ok(Ok(report)) => {
            let body =
                serde_json::json!({"hash": report.hash, "needs_restart": report.needs_restart});
            json(StatusCode::OK, &body)
        }
        Ok(Err(problems)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &problems),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the reload did not end"),
    }
}

/// What an override asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    state: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
    #[serde(default)]
    reason: String,
}

/// `PUT /api/v1/breakers/{name}`.
pub async fn force(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Body,
) -> Response {
    let Ok(body) = axum::body::to_bytes(body, LARGEST).await else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "an override is a small JSON object",
        );
    };
    let table = admin.tables.load_full();
    let Some(circuit) = table.circuits.iter().find(|c| c.name == name) else {
        return problem(
            StatusCode::NOT_FOUND,
            "there is no breaker of that name; /api/v1/breakers lists them",
        );
    };
    match read_override(&body) {
        Err(detail) => problem(StatusCode::BAD_REQUEST, &detail),
        Ok((forced, lasts, reason)) => {
            tracing::warn!(
                service = name,
                ?forced,
                seconds = lasts.as_secs(),
                reason,
                "breaker override"
            );
            let facts = serde_json::json!({"reason": reason, "seconds": lasts.as_secs()});
            let what = format!("operator: {forced:?}");
            circuit.force(forced, lasts, reason);
            table.live.events.announce("override", &name, what, facts);
            json(StatusCode::OK, &status::breaker(circuit))
        }
    }
}

fn read_override(body: &Bytes) -> Result<(Forced, Duration, String), String> {
    let asked: Override = serde_json::from_slice(body).map_err(|e| {
        format!("{e}; send {{\"state\":\"open|closed|auto\",\"for\":\"10m\",\"reason\":\"...\"}}")
    })?;
    let forced = match asked.state.as_str() {
        "open" => Forced::Open,
        "closed" => Forced::Closed,
        "auto" => return Ok((Forced::Auto, Duration::ZERO, asked.reason)),
        other => return Err(format!("state is {other:?}, not open, closed or auto")),
    };
    let lasts = asked
        .lasts
        .ok_or("`for` is missing: an override always ends by itself, after at most 24h")?;
    let lasts = duration(&lasts)
        .ok_or_else(|| format!("`for` is {lasts:?}, not a duration like 30s, 10m or 2h"))?;
    if lasts.is_zero() || lasts > LONGEST {
        return Err("`for` must be more than 0s and at most 24h".to_owned());
    }
    Ok((forced, lasts, asked.reason))
}

/// `30s`, `10m`, `2h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = match text.get(digits.len()..)? {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_secs)
}

/// `GET /api/v1/duplicates`: creates that are refused for now, and why.
pub async fn duplicates(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.tables.load_full();
    let held = table.live.guard().held(clock::now(), clock::wall());
    let list: Vec<Value> = held
        .into_iter()
        .map(|view| {
            serde_json::json!({
                "id": view.held.id,
                "upstream": view.upstream,
                "correlation_id": view.held.correlation_id,
                "since": clock::rfc3339(view.held.since),
                "until": clock::rfc3339(view.held.until),
                "what": view.held.what,
                "vendor_id": view.held.vendor_id,
                "followed": view.followed,
            })
        })
        .collect();
    json(StatusCode::OK, &Value::Array(list))
}

/// `DELETE /api/v1/duplicates/{id}`: the operator has looked, and the same create may go out.
pub async fn lift(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let table = admin.tables.load_full();
    if !table.live.guard().lift(&id) {
        let detail = "nothing is held under that id; /api/v1/duplicates lists what is";
        return problem(StatusCode::NOT_FOUND, detail);
    }
    tracing::warn!(id, "duplicate guard lifted");
    let what = "operator: lifted".to_owned();
    table
        .live
        .events
        .announce("override", &id, what, Value::Null);
    json(StatusCode::OK, &serde_json::json!({"lifted": id}))
}

/// `GET /api/v1/events`: server-sent events, the last ones first, then as they come.
pub async fn events(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.tables.load_full();
    let mut coming = table.live.events.listen();
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    let last = table.live.events.last();
    tokio::spawn(async move {
        for event in last {
            if sender.send(frame(&event)).await.is_err() {
                return;
            }
        }
        loop {
            let next = tokio::time::timeout(Duration::from_secs(15), coming.recv()).await;
            let bytes = match next {
                Ok(Ok(event)) => frame(&event),
                Ok(Err(tokio::sync::broadcast::error::RecvError::Lagged(_))) => continue,
                Ok(Err(_)) => return,
                Err(_) => Bytes::from_static(b": still here\n\n"),
            };
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
    });
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (fields, Body::new(EventStream(receiver))).into_response()
}

fn frame(event: &crate::live::events::Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    Bytes::from(format!("event: {}\ndata: {data}\n\n", event.kind))
}

struct EventStream(mpsc::Receiver<Bytes>);

impl http_body::Body for EventStream {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_override_always_ends_by_itself() {
        let read = |text: &'static str| read_override(&Bytes::from_static(text.as_bytes()));
        let (_, lasts, reason) =
            read(r#"{"state":"open","for":"10m","reason":"maintenance"}"#).unwrap();
        assert_eq!(
            (lasts, reason.as_str()),
            (Duration::from_secs(600), "maintenance")
        );
        assert!(read(r#"{"state":"auto"}"#).is_ok());
        for bad in [
            r#"{"state":"open"}"#,
            r#"{"state":"open","for":"0s"}"#,
            r#"{"state":"open","for":"25h"}"#,
            r#"{"state":"open","for":"soon"}"#,
            r#"{"state":"ajar","for":"1m"}"#,
            r#"{"state":"open","for":"1m","extra":1}"#,
            "nonsense",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
