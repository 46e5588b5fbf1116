//! The routes in the order in which they are tried, each with its policies in the order they apply.

use super::markup::{Markup, items, members, word};
use serde_json::Value;

/// The section.
pub(super) fn section(page: &mut Markup, state: &Value) {
    let list = items(&state["routes"]);
    page.raw("<h2 id=\"h-routes\">Routes</h2>");
    if list.is_empty() {
        page.raw("<p class=\"empty\">No route is configured, so that every request is answered with 404. The routes of the configuration would appear here in the order in which they are tried.</p>");
        return;
    }
    page.raw("<p class=\"note\">The first that matches wins; its policies apply from left to right.</p><ol class=\"routes\">");
    for route in list {
        row(page, route, &state["admin"]);
    }
    page.raw("</ol>");
    let total = state["routes_total"].as_u64().unwrap_or(0);
    let hidden = total.saturating_sub(u64::try_from(list.len()).unwrap_or(0));
    if hidden > 0 {
        page.raw("<p class=\"more\">").text(hidden);
        page.raw(" more: <code>trunkline routes</code> prints all.</p>");
    }
}

fn row(page: &mut Markup, route: &Value, admin: &Value) {
    page.raw("<li><div class=\"which\"><strong>")
        .value(&route["name"]);
    page.raw("</strong> <code>").value(&route["match"]);
    page.raw("</code></div><ul class=\"chain\">");
    for policy in items(&route["policies"]) {
        page.raw("<li class=\"").raw(shade(policy));
        page.raw("\"><span>").value(&policy["policy"]);
        page.raw("</span> ").value(&policy["does"]).raw("</li>");
    }
    page.raw("</ul><div class=\"answered\">");
    for (source, count) in members(&route["answered"]) {
        page.raw("<span class=\"count\">").text(source);
        page.raw(" <b>").value(count).raw("</b></span> ");
    }
    if members(&route["answered"]).next().is_none() {
        page.raw("<span class=\"quiet\">no request yet</span>");
    }
    clear(page, route, admin);
    page.raw("</div></li>");
}

fn shade(policy: &Value) -> &'static str {
    match (word(&policy["policy"]), word(&policy["does"])) {
        ("stub", "answers here") => "stub on",
        ("stub", _) => "stub",
        ("send", _) => "send",
        _ => "policy",
    }
}

/// A route that keeps answers can be made to forget them.
fn clear(page: &mut Markup, route: &Value, admin: &Value) {
    if route["cache"].is_null() || admin["read_only"] == true {
        return;
    }
    let name = word(&route["name"]);
    page.raw("<button type=\"button\" class=\"act\" aria-haspopup=\"dialog\" data-act=\"cache\" data-name=\"").text(name);
    page.raw("\" aria-label=\"Clear the cache of ").text(name);
    page.raw("\">Clear cache</button>");
}
