//! The status page: one screen, made on the server, that needs no script.
//!
//! Shows what the API answers. With script it is kept up to date: the server sends the parts that
//! changed, made by the same code, and the script puts them in place. Every value is escaped where it
//! is written, by `markup` alone.

mod head;
mod held;
mod lists;
mod markup;
mod routes;
mod spark;
mod upstreams;

use super::{Admin, status};
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use markup::Markup;
use serde_json::Value;
use std::sync::Arc;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("favicon.svg");

/// A part of the page: its id, the element it is, and what fills it.
type Part = (&'static str, &'static str, fn(&mut Markup, &Value));

/// The parts in their order on the page.
const PARTS: [Part; 10] = [
    ("notices", "div", head::notices),
    ("verdict", "div", head::verdict),
    ("upstreams", "section", upstreams::section),
    ("limits", "section", lists::limits),
    ("duplicates", "section", lists::duplicates),
    ("credentials", "section", held::credentials),
    ("refusals", "section", lists::refusals),
    ("routes", "section", routes::section),
    ("events", "section", lists::events),
    ("about", "section", head::about),
];

/// `GET /`.
pub async fn show(State(admin): State<Arc<Admin>>) -> Html<String> {
    Html(render(&status::whole(&admin, status::Extent::Page)))
}

/// `GET /page/style.css`.
pub async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// `GET /page/script.js`.
pub async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /favicon.svg`.
pub async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

/// Asked for anew each time: another version of the program may answer on the same address.
fn asset(media: &'static str, text: &'static str) -> Response {
    let fields = [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (fields, text).into_response()
}

/// The parts of the page by their id.
pub fn parts(state: &Value) -> Vec<(&'static str, String)> {
    let part = |(id, _, fill): Part| {
        let mut markup = Markup::default();
        fill(&mut markup, state);
        (id, markup.into_text())
    };
    PARTS.into_iter().map(part).collect()
}

fn render(state: &Value) -> String {
    let mut page = Markup::default();
    page.raw(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
        <meta name=\"color-scheme\" content=\"light dark\">\n\
        <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
        <link rel=\"icon\" href=\"/favicon.svg\" type=\"image/svg+xml\">\n\
        <link rel=\"stylesheet\" href=\"/page/style.css\">\n\
        <script src=\"/page/script.js\" defer></script>\n<title>Trunkline</title>\n</head>\n",
    );
    head::bar(&mut page, state);
    page.raw("<main id=\"main\" tabindex=\"-1\">\n");
    for (id, element, fill) in PARTS {
        let live = match id {
            "verdict" => " role=\"status\"",
            _ => "",
        };
        page.raw("<").raw(element).raw(" id=\"").raw(id);
        page.raw("\"").raw(live);
        if element == "section" {
            page.raw(" aria-labelledby=\"h-").raw(id).raw("\"");
        }
        page.raw(">");
        fill(&mut page, state);
        page.raw("</").raw(element).raw(">\n");
    }
    page.raw("</main>\n");
    head::dialog(&mut page, state);
    page.raw("</body>\n</html>\n");
    page.into_text()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use serde_json::json;

    /// A state in which every value is hostile and every part has something to show.
    fn hostile() -> Value {
        let evil = "\"><script>alert(1)</script>'&";
        json!({
            "version": evil, "started_at": evil, "up_seconds": 7, "draining": true,
            "environment": evil, "stubs": {"enabled": true, "routes": 2},
            "admin": {"read_only": false, "token": true},
            "config": {"path": evil, "hash": evil, "loaded_at": evil, "last_error": evil,
                "needs_restart": [evil], "warnings": [evil]},
            "upstreams": [{"name": evil, "url": evil, "profile": evil, "in_flight": 1, "queued": 2,
                "concurrency": {"limit": 3, "queue": 4}, "attempts": {"success": 3},
                "retries": {evil: 1}, "retries_skipped": {evil: 1}, "refusals": {evil: 4},
                "duplicate_guard": {evil: 5},
                "recent": {"seconds": 2, "attempts": 2, "failures": 1, "error_ratio": 0.5,
                    "per_second": 1.0, "p50_ms": 3.0, "p95_ms": 4.0,
                    "series": {"attempts": [1, 1], "failures": [0, 1], "p95_ms": [null, 4.0]}},
                "breaker": {"name": evil, "state": "open", "since": evil, "until": evil,
                    "for_seconds": 5, "left_seconds": 6, "reason": evil,
                    "override": {"state": "open", "until": evil, "left_seconds": 9, "reason": evil},
                    "last_failures": [{"at": evil, "error": evil, "correlation_id": evil}]}}],
            "breakers": [{"name": evil, "state": evil, "reason": evil}],
            "limits": [{"name": evil, "allows": evil, "by": evil, "mode": evil, "set_by": evil,
                "decisions": {evil: 2}, "most_limited": [{"client": evil, "refused": 3}]}],
            "refusals": {evil: 3},
            "credentials": [{"name": evil, "kind": evil, "state": "dead", "expires_at": evil,
                "last_refresh": evil, "last_error": evil}, {"name": evil, "state": evil, "set_by": evil}],
            "store": {"up": false, "address": evil, "since": evil, "why": evil, "degraded": [evil]},
            "notify": {"receiver": evil, "waiting": 1, "failing": evil, "results": {evil: 1}},
            "duplicates": [{"id": evil, "upstream": evil, "correlation_id": evil, "what": evil,
                "vendor_id": evil, "since": evil, "until": evil, "left_seconds": 3}],
            "routes": [{"name": evil, "match": evil, "upstream": evil, "cache": {},
                "policies": [{"policy": evil, "does": evil}], "answered": {evil: 3}}],
            "routes_total": 1, "upstreams_total": 1,
            "events": [{"kind": evil, "at": evil, "name": evil, "what": evil}],
        })
    }

    #[test]
    fn nothing_on_the_page_is_markup_of_somebody_else() {
        let page = render(&hostile());
        assert_eq!(page.matches("<script").count(), 1, "its own");
        assert!(!page.contains("alert(1)<"));
        assert!(!page.contains("'&\""), "no attribute is left open");
        assert!(page.contains("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;&amp;"));
    }

    #[test]
    fn every_part_is_on_the_page_and_has_a_heading_of_its_own() {
        for state in [hostile(), json!({})] {
            let page = render(&state);
            for (id, element, _) in PARTS {
                assert!(page.contains(&format!("<{element} id=\"{id}\"")), "{id}");
                let heading = format!("id=\"h-{id}\"");
                assert_eq!(
                    page.matches(&heading).count(),
                    usize::from(element == "section"),
                    "{id}"
                );
            }
            assert_eq!(parts(&state).len(), PARTS.len());
        }
    }

    #[test]
    fn an_empty_part_says_what_would_appear() {
        let page = render(&json!({}));
        for words in [
            "No upstream is configured",
            "No rate limit is configured",
            "Nothing is held",
            "No credential is held here",
            "Nothing was refused",
            "Nothing has happened yet",
        ] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn a_reader_that_may_change_nothing_is_offered_nothing() {
        let mut state = hostile();
        assert!(render(&state).contains("data-act=\"open\""));
        state["admin"]["read_only"] = true.into();
        let page = render(&state);
        assert!(!page.contains("data-act="), "{page}");
    }
}
