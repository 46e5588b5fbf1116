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
use std::borrow::Cow;
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
    let Ok(prefixes) = prefixes(uri.query().unwrap_or_default()) else {
        let detail = "the query may hold `prefix=/path` alone: the beginning of the paths to drop";
        return problem(StatusCode::BAD_REQUEST, detail);
    };
    let cache = table.live.cache();
    let dropped: usize = prefixes
        .iter()
        .map(|prefix| cache.purge(&name, prefix))
        .sum();
    let done = format!("{dropped} kept answers dropped");
    audit(peer, &done, &name, &reason);
    let facts = value!({"prefix": prefixes.first(), "dropped": dropped});
    let what = match reason.is_empty() {
        true => done,
        false => format!("{done}: {reason}"),
    };
    table.live.events.announce("override", &name, what, facts);
    json(StatusCode::OK, &value!({"route": name, "dropped": dropped}))
}

/// The beginnings that are meant: a path as it stands in the access log, which is as it was sent, and the same
/// decoded, since a program encodes what it puts into a query.
fn prefixes(query: &str) -> Result<Vec<String>, ()> {
    if query.is_empty() {
        return Ok(vec![String::new()]);
    }
    let written = query.strip_prefix("prefix=").ok_or(())?;
    if written.contains('&') {
        return Err(());
    }
    let read = percent_decode_str(written).decode_utf8().ok();
    let read = read.filter(|read| read != written).map(Cow::into_owned);
    let paths = [Some(written.to_owned()), read].into_iter().flatten();
    let paths: Vec<_> = paths.filter(|path| path.starts_with('/')).collect();
    (!paths.is_empty()).then_some(paths).ok_or(())
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
        for (query, paths) in [
            ("", &[""][..]),
            ("prefix=/a/1", &["/a/1"]),
            ("prefix=%2Fa%2F1", &["/a/1"]),
            ("prefix=/a%2F1", &["/a%2F1", "/a/1"]),
            ("prefix=/%ff", &["/%ff"]),
        ] {
            let read = prefixes(query).unwrap_or_default();
            assert_eq!(read, paths, "{query}");
        }
        for bad in ["prefix=", "prefix=a", "prefix=/a&x=1", "x=/a"] {
            assert_eq!(prefixes(bad), Err(()), "{bad}");
        }
    }
}
