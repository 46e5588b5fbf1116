//! Answers that are kept and given again: RFC 9111 as a shared cache reads it, one upstream request for all who want the
//! same, and a vendor's bad day that nobody notices. Nothing crosses accounts.

mod bounds;
mod changes;
mod flights;
mod keeping;
mod operator;
mod stale;
mod tenants;

use crate::support::*;

/// A route that keeps what `up` answers, under these keys of `cache`.
pub fn keeping(up: &Upstream, cache: &str) -> Proxy {
    with(up, "", &format!("cache: {{ {cache} }}"))
}

/// The same with further keys of the upstream, and any of the route.
pub fn with(up: &Upstream, upstream: &str, route: &str) -> Proxy {
    Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\", {upstream} }}
routes:
  - name: kept
    match: {{ path: \"/{{*rest}}\" }}
    upstream: up
    {route}
",
        up.url()
    ))
}

/// An upstream whose every answer carries these fields and the number of its request as a body.
pub fn numbered(fields: &[(&str, &str)]) -> Upstream {
    let step = fields
        .iter()
        .fold(reply(200), |step, (name, value)| step.header(name, value));
    Upstream::choosing(move |number, _| step.clone().body(number.to_string()))
}

/// How often the route's cache came to this result.
pub fn results(proxy: &Proxy, result: &str) -> f64 {
    let labels = [("route", "kept"), ("result", result)];
    let value = proxy
        .metrics()
        .value("trunkline_cache_results_total", &labels);
    value.unwrap_or_else(|| panic!("no series for {result}"))
}
