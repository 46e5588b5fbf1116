//! The lists: rate limits, creates that are held, refusals by reason, and what happened lately.

use super::markup::{Markup, at, counted, items, lasting, members, word};
use serde_json::Value;

/// The rate limits and whom they refuse most.
pub(super) fn limits(page: &mut Markup, state: &Value) {
    page.raw("<h2 id=\"h-limits\">Rate limits</h2>");
    let list = items(&state["limits"]);
    if list.is_empty() {
        page.raw("<p class=\"empty\">No rate limit is configured. One of <code>rate_limits</code> would appear here, with the clients that it refuses most.</p>");
        return;
    }
    page.raw("<div class=\"cards small\">");
    for limit in list {
        page.raw("<article class=\"card plain\"><header><h3>")
            .value(&limit["name"]);
        page.raw("</h3>");
        if limit["mode"] == "observe" {
            page.raw("<span class=\"badge\">only watches</span>");
        }
        page.raw("</header><p class=\"since\"><strong>")
            .value(&limit["allows"]);
        page.raw("</strong> for each ").value(&limit["by"]);
        page.raw(", set by ").value(&limit["set_by"]);
        page.raw("</p><p class=\"counts\">");
        for (decision, count) in members(&limit["decisions"]) {
            page.raw("<span class=\"count\">").text(decision);
            page.raw(" <b>").value(count).raw("</b></span> ");
        }
        page.raw("<span class=\"count\">keys held <b>")
            .value(&limit["clients"]);
        page.raw("</b></span></p>");
        most_limited(page, limit);
        page.raw("</article>");
    }
    page.raw("</div>");
}

fn most_limited(page: &mut Markup, limit: &Value) {
    if limit["by"] != "client" {
        return;
    }
    let list = items(&limit["most_limited"]);
    if list.is_empty() {
        page.raw("<p class=\"quiet\">No client was refused in the last 15 minutes. The most refused ones would stand here.</p>");
        return;
    }
    page.raw("<h4>Most refused clients</h4><ol class=\"most\">");
    for entry in list {
        page.raw("<li><code>").value(&entry["client"]);
        page.raw("</code> <b>").value(&entry["refused"]);
        page.raw("</b> <span class=\"quiet\">refused, last ")
            .text(lasting(&entry["last_seconds_ago"]));
        page.raw(" ago</span></li>");
    }
    page.raw("</ol>");
}

/// Creates of unknown outcome.
pub(super) fn duplicates(page: &mut Markup, state: &Value) {
    page.raw("<h2 id=\"h-duplicates\">Duplicate guard</h2>");
    let list = items(&state["duplicates"]);
    if list.is_empty() {
        page.raw("<p class=\"empty\">Nothing is held. A call or message whose outcome is unknown, because its answer was lost, would appear here for as long as an equal one is refused.</p>");
        return;
    }
    page.raw("<ul class=\"held-list\">");
    for held in list {
        page.raw("<li><div><strong>").value(&held["upstream"]);
        page.raw("</strong> <span>").value(&held["what"]);
        page.raw("</span></div><div class=\"quiet\">Equal requests are refused for another ");
        page.text(lasting(&held["left_seconds"]))
            .raw(", since ")
            .time(&held["since"]);
        if !word(&held["vendor_id"]).is_empty() {
            page.raw("; the vendor calls it <code>")
                .value(&held["vendor_id"])
                .raw("</code>");
        }
        if held["followed"] == true {
            page.raw("; its answer is still awaited");
        }
        page.raw("</div><div class=\"ref\">")
            .id(&held["correlation_id"]);
        if at(state, "/admin/read_only") != true {
            page.raw("<button type=\"button\" class=\"act\" aria-haspopup=\"dialog\" data-act=\"lift\" data-name=\"");
            page.value(&held["id"])
                .raw("\" aria-label=\"Lift the guard of ");
            page.value(&held["correlation_id"]).raw("\">Lift</button>");
        }
        page.raw("</div></li>");
    }
    page.raw("</ul>");
}

/// What was refused, by reason.
pub(super) fn refusals(page: &mut Markup, state: &Value) {
    page.raw("<h2 id=\"h-refusals\">Refusals</h2>");
    let largest = members(&state["refusals"])
        .filter_map(|(_, n)| n.as_u64())
        .max();
    let Some(largest) = largest else {
        page.raw("<p class=\"empty\">Nothing was refused since the start. Requests that Trunkline answers itself, such as those over a limit or during an open circuit, would be counted here by reason.</p>");
        return;
    };
    page.raw("<table class=\"bars\"><caption>Since the start, by reason</caption><thead class=\"unseen\"><tr><th scope=\"col\">Reason</th><th scope=\"col\">Requests</th><th scope=\"col\">Share</th></tr></thead><tbody>");
    for (reason, count) in members(&state["refusals"]) {
        page.raw("<tr><th scope=\"row\"><code>").text(reason);
        page.raw("</code></th><td>").value(count);
        page.raw("</td><td><meter max=\"").text(largest);
        page.raw("\" value=\"").value(count);
        page.raw("\" aria-label=\"Share of the largest\"></meter></td></tr>");
    }
    page.raw("</tbody></table>");
}

/// What happened lately, the latest first.
pub(super) fn events(page: &mut Markup, state: &Value) {
    page.raw("<h2 id=\"h-events\">Recent events</h2>");
    let list = items(&state["events"]);
    if list.is_empty() {
        page.raw("<p class=\"empty\">Nothing has happened yet. Transitions of circuits, overrides, reloads, and limits or upstreams that begin to refuse would appear here, the latest first.</p>");
        return;
    }
    let shown = counted(u64::try_from(list.len()).unwrap_or(0), "event");
    page.raw("<p class=\"note\">The last ").text(shown);
    page.raw(", times in UTC.</p><ol class=\"events\">");
    for event in list {
        page.raw("<li>").time(&event["at"]);
        page.raw(" <span class=\"kind ").raw(shade(event));
        page.raw("\">").value(&event["kind"]);
        page.raw("</span> <span class=\"what\"><strong>")
            .value(&event["name"]);
        page.raw("</strong> ").value(&event["what"]);
        page.raw("</span></li>");
    }
    page.raw("</ol>");
}

fn shade(event: &Value) -> &'static str {
    let what = word(&event["what"]);
    match word(&event["kind"]) {
        "breaker" if at(event, "/facts/to") == "open" => "bad",
        "breaker" if at(event, "/facts/to") == "closed" => "good",
        "reload" if what.starts_with("configuration kept") => "bad",
        "breaker" | "limit" | "upstream" => "warn",
        _ => "plain",
    }
}
