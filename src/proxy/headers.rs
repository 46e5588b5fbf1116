//! Header fields on their way through: what belongs to one connection stays there.
//!
//! Strips hop-by-hop fields in both directions (RFC 9110 7.6.1), with everything that `Connection`
//! names, except what a nomination must never remove. Adds `Via`. Decides nothing about framing:
//! that is the HTTP library's, from the body that is really there.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use std::net::IpAddr;

/// How we are named in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "trunkline";

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that belong to one connection.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields that a client cannot have removed by naming them in `Connection`.
fn is_protected(name: &str) -> bool {
    matches!(
        name,
        "host" | "content-length" | "content-type" | "via" | "authorization" | "cache-control"
    ) || name.starts_with("x-forwarded-")
}

/// Removes hop-by-hop fields. `ours` cannot be nominated away.
pub fn strip(fields: &mut HeaderMap, ours: &HeaderName) {
    strip_with(fields, ours, |_| false);
}

/// Removes hop-by-hop fields and those for which `also` holds. One look at each field; the one field
/// that most messages have of these is held in no list.
pub fn strip_with(fields: &mut HeaderMap, ours: &HeaderName, also: impl Fn(&str) -> bool) {
    let goes = |name: &&HeaderName| is_hop_by_hop(name.as_str()) || also(name.as_str());
    let mut found = fields.keys().filter(goes).cloned();
    let Some(first) = found.next() else {
        return;
    };
    let mut more: Vec<HeaderName> = found.collect();
    if first == header::CONNECTION || more.contains(&header::CONNECTION) {
        for nominated in fields.get_all(header::CONNECTION) {
            for token in nominated.as_bytes().split(|b| *b == b',') {
                more.extend(nominated_field(token.trim_ascii(), ours));
            }
        }
    }
    fields.remove(first);
    for name in more {
        fields.remove(name);
    }
}

fn nominated_field(token: &[u8], ours: &HeaderName) -> Option<HeaderName> {
    if token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive") {
        return None;
    }
    let name = HeaderName::from_bytes(token).ok()?;
    (!is_protected(name.as_str()) && name != *ours).then_some(name)
}

/// Counts us in `Max-Forwards` of the two methods that have it (RFC 9110 7.6.2). Whether the request may
/// go on.
pub fn count_hop(method: &Method, fields: &mut HeaderMap) -> bool {
    if *method != Method::OPTIONS && *method != Method::TRACE {
        return true;
    }
    let left = fields.get(header::MAX_FORWARDS);
    let left: Option<u64> = left.and_then(|left| left.to_str().ok()?.parse().ok());
    let Some(left) = left else {
        return true;
    };
    if let Some(less) = left.checked_sub(1) {
        fields.insert(header::MAX_FORWARDS, HeaderValue::from(less));
    }
    left > 0
}

static VIA_10: HeaderValue = HeaderValue::from_static("1.0 trunkline");
static VIA_11: HeaderValue = HeaderValue::from_static("1.1 trunkline");
static VIA_20: HeaderValue = HeaderValue::from_static("2.0 trunkline");

/// Adds us to `Via`, behind what is there (RFC 9110 7.6.3).
pub fn add_via(fields: &mut HeaderMap, received: Version) {
    let value = match received {
        Version::HTTP_10 => &VIA_10,
        Version::HTTP_2 => &VIA_20,
        _ => &VIA_11,
    };
    fields.append(header::VIA, value.clone());
}

/// Joins cookie crumbs, which HTTP/2 may split over several fields (RFC 9113 8.2.3).
pub fn join_cookies(fields: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = fields
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(header::COOKIE, joined);
    }
}

/// Whether a field tells an upstream about the hops before it.
pub fn tells_of_hops(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
}

/// What an upstream that asked for it learns of the client.
pub struct Forwarded<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client spoke TLS to us.
    pub tls: bool,
    /// The Host it named.
    pub host: &'a str,
}

/// Sets `X-Forwarded-*` to what is known; what the client claimed was removed before.
pub fn add_forwarded(fields: &mut HeaderMap, forwarded: &Forwarded<'_>) {
    if let Ok(client) = HeaderValue::from_str(&forwarded.client.to_string()) {
        fields.insert(X_FORWARDED_FOR.clone(), client);
    }
    let scheme = if forwarded.tls { "https" } else { "http" };
    fields.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme));
    if let Ok(host) = HeaderValue::from_str(forwarded.host) {
        fields.insert(X_FORWARDED_HOST.clone(), host);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_connection_names_goes_except_what_it_must_not_remove() {
        let mut map = fields(&[
            ("connection", "close, X-One , host"),
            (
                "connection",
                "x-two, content-length, x-forwarded-for, x-correlation-id",
            ),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("host", "h"),
            ("content-length", "0"),
            ("x-forwarded-for", "a"),
            ("x-correlation-id", "c"),
            ("te", "trailers"),
            ("keep-alive", "1"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
        ]);
        strip(&mut map, &HeaderName::from_static("x-correlation-id"));
        let left = [
            "content-length",
            "host",
            "x-correlation-id",
            "x-forwarded-for",
            "x-three",
        ];
        assert_eq!(names(&map), left);
    }

    #[test]
    fn only_options_and_trace_count_their_hops() {
        for (method, sent, passes, left) in [
            (Method::OPTIONS, "5", true, "4"),
            (Method::TRACE, "1", true, "0"),
            (Method::TRACE, "0", false, "0"),
            (Method::OPTIONS, "many", true, "many"),
            (Method::GET, "0", true, "0"),
        ] {
            let mut map = fields(&[("max-forwards", sent)]);
            assert_eq!(count_hop(&method, &mut map), passes, "{method} {sent}");
            assert_eq!(map["max-forwards"], left, "{method} {sent}");
        }
    }

    #[test]
    fn via_is_appended_to_what_is_there() {
        let mut map = fields(&[("via", "1.1 other")]);
        add_via(&mut map, Version::HTTP_2);
        let via: Vec<_> = map.get_all("via").iter().collect();
        assert_eq!(via, ["1.1 other", "2.0 trunkline"]);
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let mut map = fields(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut map);
        let cookies: Vec<_> = map.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
}
