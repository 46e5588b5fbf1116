//! The cache step of `explain`: what is kept of the request's answer, for how long, under which key, or
//! what the request drops.

use http::{Method, header};

use crate::cache::Settings;
use crate::routes::compile::in_words;
use crate::routes::plan::UpstreamPlan;

use super::steps::Steps;

/// What the cache has to do with the request, if anything.
pub(super) fn step(steps: &Steps<'_>, upstream: &UpstreamPlan) -> Option<(&'static str, String)> {
    let method = &steps.asked.method;
    if !method.is_safe() {
        let path = steps.sent_path(upstream);
        return Some((
            "cache",
            format!("kept answers of {path} and of what it is in are dropped when this succeeds"),
        ));
    }
    let settings = steps.route.cache.as_ref()?;
    let special = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
    ];
    let bypassed = special
        .iter()
        .find(|name| steps.asked.headers.contains_key(*name));
    let text = if !matches!(*method, Method::GET | Method::HEAD) || steps.creates(upstream) {
        "does not apply: only GET is kept".to_owned()
    } else if let Some(name) = bypassed {
        format!("does not apply: the request has {name}")
    } else {
        format!("{}; {}", times(settings), key(settings))
    };
    Some(("cache", text))
}

fn times(settings: &Settings) -> String {
    let mut text = match settings.ttl {
        Some(ttl) => format!("a kept answer is given for {}", in_words(ttl)),
        None => "a kept answer is given for as long as it says itself".to_owned(),
    };
    for (time, when) in [
        (settings.stale_while_revalidate, "while another is fetched"),
        (settings.stale_if_error, "when the upstream fails"),
    ] {
        if let Some(time) = time {
            text.push_str(&format!(", {} longer {when}", in_words(time)));
        }
    }
    text
}

fn key(settings: &Settings) -> String {
    let mut text =
        "key: route, upstream address, path, query, the account (a hash of Authorization) \
        and every other field that is sent on, but for traces, conditions and Cache-Control"
            .to_owned();
    for name in &settings.ignore {
        text.push_str(&format!(", {name}"));
    }
    text
}
