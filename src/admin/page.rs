//! The status page: one screen, made on the server, that needs no script.
//!
//! Shows what the API answers. Every value that did not come from the program itself is escaped.

use super::{Admin, status};
use axum::extract::State;
use axum::response::Html;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

const STYLE: &str = include_str!("page.css");

/// `GET /`.
pub async fn show(State(admin): State<Arc<Admin>>) -> Html<String> {
    Html(render(&status::whole(&admin)))
}

fn render(state: &Value) -> String {
    let mut page = String::with_capacity(16 * 1024);
    page.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    page.push_str("<meta http-equiv=\"refresh\" content=\"5\"><link rel=\"icon\" href=\"data:,\">");
    write!(
        page,
        "<title>Trunkline</title><style>{STYLE}</style></head><body>"
    )
    .ok();
    header(&mut page, state);
    upstreams(&mut page, &state["upstreams"]);
    table(
        &mut page,
        "Rate limits",
        &state["limits"],
        "No rate limit is configured.",
        &[
            ("Limit", "name"),
            ("Allows", "allows"),
            ("By", "by"),
            ("Mode", "mode"),
            ("Clients seen", "clients"),
            ("Set by", "set_by"),
        ],
    );
    table(
        &mut page,
        "Routes, in the order they are tried",
        &state["routes"],
        "No route is configured.",
        &[
            ("Route", "name"),
            ("Upstream", "upstream"),
            ("Breaker", "breaker"),
            ("Limits", "rate_limits"),
            ("Stub", "stub"),
        ],
    );
    page.push_str("</body></html>");
    page
}

fn header(page: &mut String, state: &Value) {
    write!(
        page,
        "<header><h1>Trunkline <small>{}</small></h1>",
        text(&state["version"])
    )
    .ok();
    if state.pointer("/stubs/enabled").and_then(Value::as_bool) == Some(true) {
        write!(page, "<p class=\"banner\" role=\"status\">Stubs are ON in {}: routes with a stub answer canned.</p>", text(&state["environment"])).ok();
    }
    let config = &state["config"];
    write!(
        page,
        "<p>Configuration {} ({}), loaded {}",
        text(&config["path"]),
        text(&config["hash"]),
        text(&config["loaded_at"])
    )
    .ok();
    if !config["last_error"].is_null() {
        write!(
            page,
            " <strong>The last reload failed:</strong> <pre>{}</pre>",
            text(&config["last_error"])
        )
        .ok();
    }
    page.push_str("</p></header>");
}

fn upstreams(page: &mut String, list: &Value) {
    page.push_str("<h2>Upstreams</h2>");
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        page.push_str("<p>No upstream is configured: only stubs answer.</p>");
        return;
    }
    page.push_str("<table><thead><tr><th scope=\"col\">Upstream</th><th scope=\"col\">Circuit</th><th scope=\"col\">Since</th><th scope=\"col\">Next probe</th><th scope=\"col\">Why</th><th scope=\"col\">Failures in a row</th><th scope=\"col\">In flight</th><th scope=\"col\">Last failures</th></tr></thead><tbody>");
    for upstream in list {
        let breaker = &upstream["breaker"];
        let state = text(&breaker["state"]);
        write!(
            page,
            "<tr><th scope=\"row\">{}<br><small>{}</small></th><td class=\"{state}\">{state}</td>",
            text(&upstream["name"]),
            text(&upstream["url"])
        )
        .ok();
        for value in [
            &breaker["since"],
            &breaker["until"],
            &breaker["reason"],
            &breaker["consecutive_failures"],
            &upstream["in_flight"],
        ] {
            write!(page, "<td>{}</td>", text(value)).ok();
        }
        page.push_str("<td>");
        for failure in breaker["last_failures"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            write!(
                page,
                "<div>{} <code>{}</code></div>",
                text(&failure["error"]),
                text(&failure["correlation_id"])
            )
            .ok();
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</tbody></table>");
}

fn table(page: &mut String, title: &str, rows: &Value, empty: &str, columns: &[(&str, &str)]) {
    write!(page, "<h2>{title}</h2>").ok();
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        write!(page, "<p>{empty}</p>").ok();
        return;
    }
    page.push_str("<table><thead><tr>");
    for (name, _) in columns {
        write!(page, "<th scope=\"col\">{name}</th>").ok();
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        page.push_str("<tr>");
        for (_, key) in columns {
            write!(page, "<td>{}</td>", text(&row[key])).ok();
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table>");
}

/// A value as escaped text; a dash for nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(s) => escaped(s),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => escaped(&other.to_string()),
    }
}

fn escaped(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_is_markup_of_somebody_else() {
        let evil = "<script>alert(1)</script>";
        let state = serde_json::json!({
            "version": evil, "environment": evil, "stubs": {"enabled": true},
            "config": {"path": evil, "hash": evil, "loaded_at": evil, "last_error": evil},
            "upstreams": [{"name": evil, "url": evil, "in_flight": 0, "breaker": {
                "state": "open", "since": evil, "reason": evil,
                "last_failures": [{"error": evil, "correlation_id": evil}]}}],
            "limits": [{"name": evil}], "routes": [{"name": evil, "rate_limits": [evil]}],
        });
        assert!(!render(&state).contains("<script"));
    }
}
