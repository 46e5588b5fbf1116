//! The upstreams and their circuits: how each is, why, and what may be done about it.

use super::markup::{Markup, at, counted, items, lasting, members, word};
use super::spark;
use serde_json::Value;

/// The section of all of them.
pub(super) fn section(page: &mut Markup, state: &Value) {
    page.raw("<h2 id=\"h-upstreams\">Upstreams</h2>");
    let list = items(&state["upstreams"]);
    if list.is_empty() {
        page.raw("<p class=\"empty\">No upstream is configured: only stubs answer. An upstream of the configuration would appear here with the state of its circuit.</p>");
    } else {
        page.raw("<div class=\"cards\">");
        for upstream in list {
            card(page, upstream, &state["admin"]);
        }
        page.raw("</div>");
    }
    let hidden = state["upstreams_total"].as_u64().unwrap_or(0);
    let hidden = hidden.saturating_sub(u64::try_from(list.len()).unwrap_or(0));
    if hidden > 0 {
        page.raw("<p class=\"more\">").text(hidden);
        page.raw(" more: <a href=\"/api/v1/status\">/api/v1/status</a> has all.</p>");
    }
    shared(page, state);
}

/// Breakers that no upstream has for itself.
fn shared(page: &mut Markup, state: &Value) {
    let is_own = |breaker: &&Value| {
        let mut upstreams = items(&state["upstreams"]).iter();
        upstreams.any(|upstream| *at(upstream, "/breaker/name") == breaker["name"])
    };
    let many = items(&state["upstreams"]).len() < crate::admin::status::ON_THE_PAGE;
    let mut shared = items(&state["breakers"]).iter();
    let shared: Vec<&Value> = shared.by_ref().filter(|b| many && !is_own(b)).collect();
    if shared.is_empty() {
        return;
    }
    page.raw("<h3 class=\"sub\">Breakers that routes share</h3><div class=\"cards\">");
    for breaker in shared {
        opened(page, breaker);
        title(page, breaker, "");
        circuit(page, breaker);
        actions(page, breaker, &state["admin"]);
        page.raw("</article>");
    }
    page.raw("</div>");
}

fn card(page: &mut Markup, upstream: &Value, admin: &Value) {
    let breaker = &upstream["breaker"];
    opened(page, breaker);
    title(page, breaker, word(&upstream["name"]));
    page.raw("<p class=\"where\">").value(&upstream["url"]);
    page.raw(" <span>")
        .value(&upstream["profile"])
        .raw("</span></p>");
    circuit(page, breaker);
    sparks(page, &upstream["recent"]);
    numbers(page, upstream);
    reasons(page, upstream);
    actions(page, breaker, admin);
    page.raw("</article>");
}

fn opened(page: &mut Markup, breaker: &Value) {
    page.raw("<article class=\"card ").raw(shade(breaker));
    page.raw("\" data-breaker=\"").value(&breaker["name"]);
    page.raw("\" aria-label=\"").value(&breaker["name"]);
    page.raw("\">");
}

/// The class of a state: from a closed list, as it goes into the markup as it is.
fn shade(breaker: &Value) -> &'static str {
    match word(&breaker["state"]) {
        "open" => "open",
        "half-open" => "half-open",
        _ => "closed",
    }
}

fn title(page: &mut Markup, breaker: &Value, name: &str) {
    let name = if name.is_empty() {
        word(&breaker["name"])
    } else {
        name
    };
    let (mark, state) = match shade(breaker) {
        "open" => ("✕", "open"),
        "half-open" => ("◐", "half-open"),
        _ => ("✓", "closed"),
    };
    page.raw("<header><h3>").text(name);
    page.raw("</h3><span class=\"badge\"><span aria-hidden=\"true\">")
        .raw(mark);
    page.raw("</span> ").raw(state).raw("</span></header>");
}

/// How the circuit stands, since when, until when and why.
fn circuit(page: &mut Markup, breaker: &Value) {
    page.raw("<p class=\"since\">").raw(match shade(breaker) {
        "open" => "Refusing every call for ",
        "half-open" => "Letting probes through for ",
        _ => "Flowing for ",
    });
    page.text(lasting(&breaker["for_seconds"]))
        .raw(", since ")
        .time(&breaker["since"])
        .raw(".");
    let forced = &breaker["override"];
    if shade(breaker) == "half-open" {
        let probes = breaker["probes_in_flight"].as_u64().unwrap_or(0);
        page.raw(" ")
            .text(counted(probes, "probe"))
            .raw(" out now.");
    }
    if shade(breaker) == "closed" && breaker["consecutive_failures"].as_u64() > Some(0) {
        let failures = breaker["consecutive_failures"].as_u64().unwrap_or(0);
        page.raw(" <strong class=\"warn\">")
            .text(counted(failures, "failure"));
        page.raw(" in a row.</strong>");
    }
    page.raw("</p>");
    if forced.is_null() {
        countdown(page, breaker);
    } else {
        held(page, forced);
    }
    why(page, breaker);
}

fn countdown(page: &mut Markup, breaker: &Value) {
    let (true, Some(left)) = (shade(breaker) == "open", breaker["left_seconds"].as_u64()) else {
        return;
    };
    let gone = breaker["for_seconds"].as_u64().unwrap_or(0);
    page.raw("<p class=\"next\">Next probe in <strong>")
        .text(lasting(&left.into()));
    page.raw("</strong>, at ").time(&breaker["until"]);
    page.raw("</p><progress aria-label=\"Time until the next probe\" max=\"")
        .text(gone + left);
    page.raw("\" value=\"").text(gone).raw("\"></progress>");
}

fn held(page: &mut Markup, forced: &Value) {
    page.raw("<p class=\"held\"><strong>Held ")
        .value(&forced["state"]);
    page.raw("</strong> by an operator until ")
        .time(&forced["until"]);
    page.raw(", ")
        .text(lasting(&forced["left_seconds"]))
        .raw(" left");
    if !word(&forced["reason"]).is_empty() {
        page.raw(": ").value(&forced["reason"]);
    }
    page.raw("</p>");
}

/// What led to the state, with the calls that failed.
fn why(page: &mut Markup, breaker: &Value) {
    let failures = items(&breaker["last_failures"]);
    let is_closed = shade(breaker) == "closed";
    if is_closed && failures.is_empty() {
        return;
    }
    if is_closed {
        page.raw("<details class=\"why\"><summary>Last failures</summary>");
    } else {
        page.raw("<div class=\"why\"><h4>Why</h4><p>")
            .value(&breaker["reason"]);
        page.raw("</p>");
    }
    page.raw("<ol class=\"failures\">");
    for failure in failures.iter().rev() {
        page.raw("<li>").time(&failure["at"]).raw(" <span>");
        page.value(&failure["error"])
            .raw("</span> <span class=\"ref\">");
        page.id(&failure["correlation_id"]).raw("</span></li>");
    }
    page.raw("</ol>")
        .raw(if is_closed { "</details>" } else { "</div>" });
}

fn sparks(page: &mut Markup, recent: &Value) {
    if recent.is_null() {
        page.raw("<p class=\"quiet\">The first figures come within a second.</p>");
        return;
    }
    let series = &recent["series"];
    page.raw("<dl class=\"sparks\"><div><dt>Calls</dt><dd><b>");
    match recent["per_second"].as_f64() {
        Some(rate) => page.text(format_args!("{rate:.1}")).raw("</b> /s"),
        None => page.raw("–</b>"),
    };
    page.raw("</dd><dd class=\"picture\">");
    let label = "Calls in each second of two minutes, failed ones over them";
    spark::draw(page, label, &series["attempts"], Some(&series["failures"]));
    page.raw("</dd></div><div><dt>Errors</dt><dd><b>");
    match recent["error_ratio"].as_f64() {
        Some(ratio) => page
            .text(format_args!("{:.1}", ratio * 100.0))
            .raw("</b> %"),
        None => page.raw("–</b>"),
    };
    page.raw("</dd><dd class=\"picture errors\">");
    let label = "Failed calls in each second of two minutes";
    spark::draw(page, label, &series["failures"], None);
    page.raw("</dd></div><div><dt>95% within</dt><dd><b>");
    match recent["p95_ms"].as_f64() {
        Some(millis) => page.text(millis).raw("</b> ms"),
        None => page.raw("–</b>"),
    };
    page.raw("</dd><dd class=\"picture\">");
    let label = "How long 95 of 100 calls took at most, in each second of two minutes";
    spark::draw(page, label, &series["p95_ms"], None);
    page.raw("</dd></div></dl>");
}

fn numbers(page: &mut Markup, upstream: &Value) {
    let total = |counts: &Value| members(counts).filter_map(|(_, n)| n.as_u64()).sum::<u64>();
    let room = &upstream["concurrency"];
    page.raw("<dl class=\"numbers\"><div><dt>In flight</dt><dd><b>")
        .value(&upstream["in_flight"]);
    page.raw("</b> of ").value(&room["limit"]);
    page.raw("</dd></div><div><dt>Waiting</dt><dd><b>")
        .value(&upstream["queued"]);
    page.raw("</b> of ").value(&room["queue"]);
    page.raw("</dd></div><div><dt>Retries</dt><dd><b>")
        .text(total(&upstream["retries"]));
    page.raw("</b></dd></div><div><dt>Refused</dt><dd><b>")
        .text(total(&upstream["refusals"]));
    page.raw("</b></dd></div></dl>");
}

fn reasons(page: &mut Markup, upstream: &Value) {
    let lists = [
        ("Attempts, by how they ended", &upstream["attempts"]),
        ("Retries, by reason", &upstream["retries"]),
        ("Not retried, by reason", &upstream["retries_skipped"]),
        ("Refusals, by reason", &upstream["refusals"]),
        ("Duplicate guard", &upstream["duplicate_guard"]),
    ];
    page.raw("<details class=\"reasons\"><summary>All counts since the start</summary><dl>");
    for (title, counts) in lists {
        page.raw("<div><dt>").raw(title).raw("</dt><dd>");
        let mut any = false;
        for (reason, count) in members(counts) {
            if count.as_u64() != Some(0) {
                any = true;
                page.raw("<span class=\"count\">")
                    .text(reason.replace('_', " "));
                page.raw(" <b>").value(count).raw("</b></span> ");
            }
        }
        page.raw(if any { "" } else { "none" }).raw("</dd></div>");
    }
    page.raw("</dl></details>");
}

/// What an operator may do; without a script, how to do it in a terminal.
fn actions(page: &mut Markup, breaker: &Value, admin: &Value) {
    if admin["read_only"] == true {
        return;
    }
    let name = word(&breaker["name"]);
    let is_held = !breaker["override"].is_null();
    page.raw("<footer class=\"acts\">");
    for (act, words) in [
        ("open", "Hold open"),
        ("closed", "Hold closed"),
        ("auto", "Back to automatic"),
    ] {
        if act == "auto" && !is_held {
            continue;
        }
        page.raw("<button type=\"button\" class=\"act\" aria-haspopup=\"dialog\" data-act=\"")
            .raw(act);
        page.raw("\" data-name=\"").text(name);
        page.raw("\" aria-label=\"").raw(words).raw(": ").text(name);
        page.raw("\">").raw(words).raw("</button>");
    }
    page.raw("<p class=\"terminal\">In a terminal: <code>trunkline breaker open ")
        .text(name);
    page.raw(" --for 10m --reason \"…\"</code></p></footer>");
}
