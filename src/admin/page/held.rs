//! What is held for callers, shared with replicas and told outside: names, states and reasons, never a value.

use super::markup::{Markup, items, members, word};
use serde_json::Value;

/// What must not be overlooked of these.
pub(super) fn notices(page: &mut Markup, state: &Value) {
    for held in items(&state["credentials"]) {
        let consequence = match word(&held["state"]) {
            "dead" => "Calls that need it are refused until somebody renews it.",
            "unavailable" => "Calls that need it are refused until its provider gives a token.",
            _ => continue,
        };
        page.raw("<div class=\"notice bad\" role=\"alert\"><strong>The credential ")
            .value(&held["name"])
            .raw(" is ")
            .value(&held["state"]);
        page.raw(".</strong> ").value(&held["last_error"]);
        page.raw(". ").raw(consequence).raw("</div>");
    }
    let notify = &state["notify"];
    if !word(&notify["failing"]).is_empty() {
        page.raw(
            "<div class=\"notice warn\"><strong>Changes of circuits are not told</strong> to ",
        )
        .value(&notify["receiver"]);
        page.raw(": ").value(&notify["failing"]);
        page.raw(". Requests are not affected.</div>");
    }
}

/// The credentials, each with its state.
pub(super) fn credentials(page: &mut Markup, state: &Value) {
    page.raw("<h2 id=\"h-credentials\">Credentials</h2>");
    let list = items(&state["credentials"]);
    if list.is_empty() {
        page.raw("<p class=\"empty\">No credential is held here: callers send their own. One of <code>credentials</code> would appear here with its state, and never with its value.</p>");
        return;
    }
    page.raw("<div class=\"scroll\" role=\"region\" aria-label=\"Credentials\" tabindex=\"0\"><table class=\"holdings\"><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Kind</th><th scope=\"col\">State</th><th scope=\"col\">Token ends</th><th scope=\"col\">Last error</th></tr></thead><tbody>");
    for held in list {
        page.raw("<tr><th scope=\"row\">").value(&held["name"]);
        page.raw("</th><td>").value(&held["kind"]);
        page.raw("</td><td><strong class=\"")
            .raw(match word(&held["state"]) {
                "ready" => "well",
                "dead" | "unavailable" => "bad",
                _ => "warn",
            })
            .raw("\">");
        page.value(&held["state"]).raw("</strong></td><td>");
        match word(&held["expires_at"]) {
            "" => page.raw("–"),
            _ => page.time(&held["expires_at"]),
        };
        page.raw("</td><td>");
        match word(&held["set_by"]) {
            "" => page.value(&held["last_error"]),
            set_by => page.raw("set by ").text(set_by),
        };
        page.raw("</td></tr>");
    }
    page.raw("</tbody></table></div>");
}

/// Where replicas share and who is told, among the facts about the process.
pub(super) fn places(page: &mut Markup, state: &Value) {
    let store = &state["store"];
    if !store.is_null() {
        page.raw("</dd></div><div><dt>Shared store</dt><dd><code>")
            .value(&store["address"]);
        page.raw("</code> ").raw(match store["up"] == true {
            true => "in use since ",
            false => "away since ",
        });
        page.time(&store["since"]);
    }
    let notify = &state["notify"];
    if !notify.is_null() {
        page.raw("</dd></div><div><dt>Changes are told to</dt><dd><code>")
            .value(&notify["receiver"]);
        page.raw("</code>");
        for (result, count) in members(&notify["results"]) {
            page.raw(" <span class=\"count\">").text(result);
            page.raw(" <b>").value(count).raw("</b></span>");
        }
    }
}
