//! The frame of the page: its bar, what cannot be overlooked, the state in one sentence, and the
//! dialog that asks before something is changed.

use super::held;
use super::markup::{Markup, at, counted, items, lasting, word};
use serde_json::Value;

/// How long an override may be asked to last; the third is what is offered.
const LENGTHS: [(&str, &str); 7] = [
    ("1m", "1 minute"),
    ("5m", "5 minutes"),
    ("10m", "10 minutes"),
    ("30m", "30 minutes"),
    ("1h", "1 hour"),
    ("4h", "4 hours"),
    ("24h", "24 hours"),
];

/// The bar at the top, and the beginning of the body.
pub(super) fn bar(page: &mut Markup, state: &Value) {
    page.raw("<body data-token=\"")
        .raw(match at(state, "/admin/token") == true {
            true => "needed",
            false => "",
        });
    page.raw("\">\n<a class=\"skip\" href=\"#main\">To the state</a>\n<header class=\"bar\"><h1><img src=\"/favicon.svg\" alt=\"\" width=\"28\" height=\"28\">Trunkline</h1>");
    page.raw("<span class=\"tag\">").value(&state["version"]);
    page.raw("</span><span class=\"tag env\">")
        .value(&state["environment"]);
    page.raw("</span><span class=\"grow\"></span><span id=\"link\" class=\"link\" role=\"status\"><noscript>shown anew every 5 s</noscript></span>");
    if at(state, "/admin/read_only") == true {
        page.raw("<span class=\"tag\">read only</span>");
    } else {
        page.raw("<button type=\"button\" class=\"act\" aria-haspopup=\"dialog\" data-act=\"reload\">Reload configuration</button>");
    }
    page.raw("</header>\n");
}

/// What must not be overlooked.
pub(super) fn notices(page: &mut Markup, state: &Value) {
    if state["draining"] == true {
        page.raw("<div class=\"notice warn\"><strong>Stopping.</strong> Clients are asked to leave; what is under way is finished.</div>");
    }
    if at(state, "/stubs/enabled") == true {
        let routes = at(state, "/stubs/routes").as_u64().unwrap_or(0);
        if routes > 0 {
            page.raw("<div class=\"notice stubs\"><strong>Stubs are ON</strong> in ")
                .value(&state["environment"]);
            page.raw(": ").text(counted(routes, "route"));
            page.raw(" answer canned data, marked <code>X-Stub</code>. Nothing of theirs reaches a vendor.</div>");
        }
    }
    let config = &state["config"];
    if !config["last_error"].is_null() {
        page.raw("<div class=\"notice bad\" role=\"alert\"><strong>The last reload failed; the configuration before it goes on.</strong><pre tabindex=\"0\">");
        page.value(&config["last_error"]).raw("</pre></div>");
    }
    store(page, &state["store"]);
    held::notices(page, state);
    for what in items(&config["needs_restart"]) {
        page.raw("<div class=\"notice warn\"><strong>Needs a restart:</strong> ")
            .value(what);
        page.raw(".</div>");
    }
}

/// What replicas share, while it is away.
fn store(page: &mut Markup, store: &Value) {
    if store["up"] != false {
        return;
    }
    page.raw("<div class=\"notice warn\"><strong>The shared store is away</strong> since ")
        .time(&store["since"]);
    page.raw(": ").value(&store["why"]).raw(".<ul>");
    for what in items(&store["degraded"]) {
        page.raw("<li>").value(what).raw("</li>");
    }
    page.raw("</ul></div>");
}

/// The state in one sentence; it changes only when the state does, as it is read aloud.
pub(super) fn verdict(page: &mut Markup, state: &Value) {
    let breakers = items(&state["breakers"]);
    let named = |state: &str| -> Vec<&str> {
        let standing = breakers.iter().filter(|b| b["state"] == state);
        standing.map(|breaker| word(&breaker["name"])).collect()
    };
    let (open, probing) = (named("open"), named("half-open"));
    if !open.is_empty() {
        let are = if open.len() == 1 {
            " is open."
        } else {
            " are open."
        };
        page.raw("<p class=\"verdict open\"><strong>")
            .text(open.join(", "))
            .raw(are);
        page.raw("</strong> Calls there are refused at once, without waiting for the vendor.</p>");
    } else if !probing.is_empty() {
        page.raw("<p class=\"verdict half-open\"><strong>")
            .text(probing.join(", "));
        page.raw(": probing.");
        page.raw(
            "</strong> A few calls go through to find out whether the vendor has recovered.</p>",
        );
    } else if breakers.is_empty() {
        page.raw("<p class=\"verdict closed\"><strong>No circuit to watch.</strong> Requests are answered by stubs alone.</p>");
    } else {
        let circuits = counted(u64::try_from(breakers.len()).unwrap_or(0), "circuit");
        page.raw("<p class=\"verdict closed\"><strong>All calls flow.</strong> ")
            .text(circuits);
        page.raw(" closed.</p>");
    }
}

/// What runs, and where the same is for machines.
pub(super) fn about(page: &mut Markup, state: &Value) {
    let config = &state["config"];
    page.raw(
        "<h2 id=\"h-about\">Configuration</h2><dl class=\"about\"><div><dt>File</dt><dd><code>",
    )
    .value(&config["path"]);
    page.raw("</code></dd></div><div><dt>Version</dt><dd><code>")
        .value(&config["hash"]);
    page.raw("</code></dd></div><div><dt>Loaded</dt><dd>")
        .time(&config["loaded_at"]);
    page.raw(" <span class=\"quiet\">UTC</span></dd></div><div><dt>Last reload</dt><dd>");
    page.raw(match config["last_error"].is_null() {
        true => "no problem",
        false => "failed, see above",
    });
    page.raw("</dd></div><div><dt>Running for</dt><dd>")
        .text(lasting(&state["up_seconds"]));
    held::places(page, state);
    page.raw("</dd></div></dl>");
    let warnings = items(&config["warnings"]);
    if !warnings.is_empty() {
        page.raw("<details class=\"warnings\"><summary>");
        page.text(counted(
            u64::try_from(warnings.len()).unwrap_or(0),
            "warning",
        ));
        page.raw(" about it</summary><ul>");
        for warning in warnings {
            page.raw("<li>").value(warning).raw("</li>");
        }
        page.raw("</ul></details>");
    }
    page.raw("<p class=\"links\">The same for machines: <a href=\"/api/v1/status\">status</a> <a href=\"/api/v1/breakers\">breakers</a> <a href=\"/api/v1/routes\">routes</a> <a href=\"/api/v1/events\">events</a> <a href=\"/metrics\">metrics</a></p>");
}

/// The dialog that asks for a reason and a time; empty and closed until the script opens it.
pub(super) fn dialog(page: &mut Markup, state: &Value) {
    page.raw("<dialog id=\"ask\" aria-labelledby=\"ask-title\" aria-describedby=\"ask-what\"><form method=\"dialog\" id=\"ask-form\"><h2 id=\"ask-title\"></h2><p id=\"ask-what\"></p><div id=\"ask-time\"><label for=\"ask-for\">For how long</label><select id=\"ask-for\">");
    for (value, words) in LENGTHS {
        page.raw("<option value=\"").raw(value);
        page.raw(if value == "10m" {
            "\" selected>"
        } else {
            "\">"
        });
        page.raw(words).raw("</option>");
    }
    page.raw("</select><p class=\"hint\">It ends by itself then.</p></div><div><label for=\"ask-why\">Reason</label><input id=\"ask-why\" type=\"text\" maxlength=\"200\" autocomplete=\"off\" required><p class=\"hint\">It goes into the log and is shown here.</p></div>");
    if at(state, "/admin/token") == true {
        page.raw("<div><label for=\"ask-token\">Token</label><input id=\"ask-token\" type=\"password\" autocomplete=\"off\" required><p class=\"hint\">The content of <code>admin.token_file</code>; kept by this page until it is closed.</p></div>");
    }
    page.raw("<p id=\"ask-error\" class=\"failed\" role=\"alert\" hidden></p><footer><button type=\"button\" id=\"ask-no\">Cancel</button><button type=\"submit\" id=\"ask-yes\" class=\"main\"></button></footer></form></dialog>\n<div id=\"toasts\" role=\"status\" aria-live=\"polite\"></div>\n");
}
