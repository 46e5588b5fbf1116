//! The few things that an operator may change, each with a line in the log: who, what, why.
//!
//! Who may is decided before, in `guard`. Nothing here waits for a request, and nothing lasts for
//! ever: an override ends by itself.

use super::{Admin, PATIENCE, Peer, json, problem, status};
use crate::clock::Duration;
use crate::policy::breaker::{Forced, Unheeded};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// An override lasts at most this long.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest body of a write, in bytes.
const LARGEST: usize = 16 * 1024;
/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;

/// The audit line of a write.
pub(super) fn audit(Peer(client): Peer, what: &str, name: &str, reason: &str) {
    tracing::warn!(%client, what, name, reason, "an operator's write");
}

/// What any write may say of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Why {
    reason: String,
}

/// The reason in a body that may be empty.
pub(super) async fn read_why(body: Body) -> Result<String, Response> {
    let body = read(body).await?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(String::new());
    }
    let why: Why = serde_json::from_slice(&body).map_err(|e| {
        let detail = format!("{e}; send nothing, or {{\"reason\":\"...\"}}");
        problem(StatusCode::BAD_REQUEST, &detail)
    })?;
    Ok(cut(&why.reason))
}

async fn read(body: Body) -> Result<Bytes, Response> {
    match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, LARGEST)).await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(_)) => {
            let detail = "a write is a small JSON object";
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => {
            let detail = format!("the body was not complete within {PATIENCE:?}");
            let mut answer = problem(StatusCode::REQUEST_TIMEOUT, &detail);
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            Err(answer)
        }
    }
}

fn cut(reason: &str) -> String {
    reason.trim().chars().take(LONGEST_REASON).collect()
}

/// `POST /-/reload`.
pub async fn reload(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Response {
    let reason = match read_why(body).await {
        Ok(reason) => reason,
        Err(answer) => return answer,
    };
    audit(peer, "reload", "configuration", &reason);
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
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Response {
    let body = match read(body).await {
        Ok(body) => body,
        Err(answer) => return answer,
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
            if let Err(why) = circuit.heeds(forced) {
                return problem(StatusCode::CONFLICT, &unheeded(&name, why));
            }
            let seconds = lasts.as_secs();
            let what = match forced {
                Forced::Open => format!("held open for {seconds} s"),
                Forced::Closed => format!("held closed for {seconds} s"),
                Forced::Auto => "back to automatic".to_owned(),
            };
            audit(peer, &what, &name, &reason);
            let facts = serde_json::json!({"reason": reason, "seconds": seconds});
            let said = match reason.is_empty() {
                true => what,
                false => format!("{what}: {reason}"),
            };
            if let Some(fleet) = table.live.fleet() {
                fleet.tell_ordered(&name, forced, lasts, &reason);
            }
            circuit.force(forced, lasts, reason);
            table.live.events.announce("override", &name, said, facts);
            json(StatusCode::OK, &status::breaker(circuit))
        }
    }
}

fn unheeded(name: &str, why: Unheeded) -> String {
    match why {
        Unheeded::Off => format!(
            "breaker {name} is switched off (enabled: false) and takes no orders; switch it on in \
            the configuration, reload, and ask again"
        ),
        Unheeded::Observes => format!(
            "breaker {name} only observes (mode: observe) and refuses nothing, so that holding it open \
            would stop no call; set mode: enforce in the configuration, reload, and ask again"
        ),
    }
}

fn read_override(body: &Bytes) -> Result<(Forced, Duration, String), String> {
    let asked: Override = serde_json::from_slice(body).map_err(|e| {
        format!("{e}; send {{\"state\":\"open|closed|auto\",\"for\":\"10m\",\"reason\":\"...\"}}")
    })?;
    let forced = match asked.state.as_str() {
        "open" => Forced::Open,
        "closed" => Forced::Closed,
        "auto" => return Ok((Forced::Auto, Duration::ZERO, cut(&asked.reason))),
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
    Ok((forced, lasts, cut(&asked.reason)))
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

/// `DELETE /api/v1/duplicates/{id}`: the operator has looked, and the same create may go out.
pub async fn lift(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Response {
    let reason = match read_why(body).await {
        Ok(reason) => reason,
        Err(answer) => return answer,
    };
    let table = admin.tables.load_full();
    if !table.live.guard().lift_everywhere(&id).await {
        let detail = "nothing is held under that id; /api/v1/duplicates lists what is";
        return problem(StatusCode::NOT_FOUND, detail);
    }
    audit(peer, "duplicate guard lifted", &id, &reason);
    let what = match reason.is_empty() {
        true => "duplicate guard lifted".to_owned(),
        false => format!("duplicate guard lifted: {reason}"),
    };
    let events = &table.live.events;
    events.announce("override", &id, what, Value::Null);
    json(StatusCode::OK, &serde_json::json!({"lifted": id}))
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
