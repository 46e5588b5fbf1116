//! The small configuration files that many tests share. Each says only what its tests are about.

use super::upstream::Upstream;

/// Every path goes to the upstream as it is; nothing else is configured and the breaker is off.
pub fn straight_to(upstream: &Upstream) -> String {
    straight_to_url(&upstream.url())
}

/// The same, for a URL.
pub fn straight_to_url(url: &str) -> String {
    upstream_with(url, "breaker: { enabled: false }")
}

/// Every path goes to `up` at `url`, which has these further keys (YAML flow style, comma-separated).
pub fn upstream_with(url: &str, keys: &str) -> String {
    let keys = if keys.is_empty() {
        String::new()
    } else {
        format!(", {keys}")
    };
    format!(
        "
upstreams:
  up: {{ url: \"{url}\"{keys} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
"
    )
}
