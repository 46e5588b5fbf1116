//! The operator's view of kept answers: what each route holds, and the means to drop it.

use super::writes::{audit, read_why};
use super::{Admin, Peer, json, problem};
use crate::routes::plan::RoutePlan;
use crate::routes::table::Table;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json as value};
use std::sync::Arc;

/// `DELETE /api/v1/cache/{route}`, `?prefix=/path` for a part: by the path that clients ask for, or by
/// the one that is sent on.
pub async fn purge(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    body: Body,
) -> Response {
    let reason = match read_why(body).await {
        Ok(reason) => reason,
        Err(answer) => return answer,
    };
    let table = admin.tables.load_full();
    let keeps = |route: &&RoutePlan| route.name == name && route.cache.is_some();
    if !table.plan.routes.iter().any(|route| keeps(&route)) {
        let detail = "no route of that name keeps answers; /api/v1/routes lists them";
        return problem(StatusCode::NOT_FOUND, detail);
    }
    let Ok(prefix) = prefix(uri.query().unwrap_or_default()) else {
        let detail = "the query may hold `prefix=/path` alone: the beginning of the paths to drop";
        return problem(StatusCode::BAD_REQUEST, detail);
    };
    let dropped = table.live.cache().purge(&name, &prefix);
    let done = format!("{dropped} kept answers dropped");
    audit(peer, &done, &name, &reason);
    let facts = value!({"prefix": prefix, "dropped": dropped});
    let what = match reason.is_empty() {
        true => done,
        false => format!("{done}: {reason}"),
    };
    table.live.events.announce("override", &name, what, facts);
    json(StatusCode::OK, &value!({"route": name, "dropped": dropped}))
}

fn prefix(query: &str) -> Result<String, ()> {
    if query.is_empty() {
        return Ok(String::new());
    }
    let written = query.strip_prefix("prefix=").ok_or(())?;
    let read = percent_decode_str(written).decode_utf8().map_err(|_| ())?;
    let sound = read.starts_with('/') && !written.contains('&');
    sound.then(|| read.into_owned()).ok_or(())
}

/// What a route holds, where it keeps answers.
pub fn holding(table: &Table, route: &RoutePlan) -> Option<Value> {
    let settings = route.cache.as_ref()?;
    let holding = table.live.cache().holding(&route.name);
    Some(value!({
        "entries": holding.entries,
        "bytes": holding.bytes,
        "max_bytes": settings.max_bytes,
        "evicted": holding.evicted,
        "ttl_seconds": settings.ttl.map(|ttl| ttl.as_secs_f64()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_says_what_it_means() {
        assert_eq!(prefix(""), Ok(String::new()));
        assert_eq!(
            prefix("prefix=/assistant%2F1"),
            Ok("/assistant/1".to_owned())
        );
        for bad in [
            "prefix=",
            "prefix=a",
            "prefix=/a&x=1",
            "x=/a",
            "prefix=/%ff",
        ] {
            assert_eq!(prefix(bad), Err(()), "{bad}");
        }
    }
}
