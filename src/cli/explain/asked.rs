//! The request that is asked about, made of words on a command line.

use http::Method;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use crate::routes::pattern::has_dot_segment;
use crate::routes::plan::Plan;
use crate::routes::rule::View;

/// A request as the matcher would see it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) listener: u16,
}

impl Asked {
    /// Reads the words: a path, or a URL whose host and port count too.
    pub(super) fn read(
        plan: &Plan,
        method: &str,
        url: &str,
        fields: &[String],
    ) -> Result<Asked, String> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("{method:?} is not a method; write one such as GET"))?;
        let headers = headers(fields)?;
        let url = url.split('#').next().unwrap_or_default();
        let (authority, target) = split(url)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        if path.parse::<PathAndQuery>().is_err() || !path.is_ascii() {
            return Err(format!(
                "{path:?} cannot stand in a request; percent-encode it"
            ));
        }
        let listener = listener(plan, authority);
        let authority = authority.map_or_else(|| default_authority(plan, &headers), str::to_owned);
        Ok(Asked {
            method,
            host: without_port(&authority).to_owned(),
            path: path.to_owned(),
            query,
            headers,
            listener,
        })
    }

    /// Path and query as sent.
    pub(super) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// What the matcher sees.
    pub(super) fn view(&self) -> View<'_> {
        View {
            listener: self.listener,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
        }
    }

    /// The answer to a request that gets no look at the routes.
    pub(super) fn refused(&self) -> Option<&'static str> {
        if self.method == Method::CONNECT {
            return Some(
                "405 connect_method: this is no forward proxy; give the SDK the proxy's address as its base URL",
            );
        }
        let dots = has_dot_segment(&self.path);
        dots.then_some("400 bad_request: the path holds a `.` or `..` segment")
    }
}

/// What a client would send as Host by itself: what it was told to, or the address it calls.
fn default_authority(plan: &Plan, headers: &HeaderMap) -> String {
    let named = headers.get(HOST).and_then(|value| value.to_str().ok());
    let first = plan.process.listeners.first();
    named.map_or_else(
        || first.map_or_else(String::new, |first| first.address.to_string()),
        str::to_owned,
    )
}

fn headers(fields: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for field in fields {
        let (name, value) = field
            .split_once(':')
            .ok_or_else(|| "a header field is written as 'Name: value'".to_owned())?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| format!("{:?} is not a header name", name.trim()))?;
        let value = HeaderValue::from_str(value.trim())
            .map_err(|_| format!("the value of {name} holds a control character"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The authority, where there is one, and the rest.
fn split(url: &str) -> Result<(Option<&str>, &str), String> {
    if url.starts_with('/') || url == "*" {
        return Ok((None, url));
    }
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("{url:?} is neither a path nor a URL; a path starts with `/`"))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(format!("{scheme} is not http or https"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    Ok((Some(authority), target))
}

/// The listener of the URL's port, or else the first.
fn listener(plan: &Plan, authority: Option<&str>) -> u16 {
    let port = authority.and_then(|authority| authority.rsplit_once(':'));
    let port: Option<u16> = port.and_then(|(_, port)| port.parse().ok());
    let listeners = plan.process.listeners.iter();
    let found = (0..)
        .zip(listeners)
        .find(|(_, l)| Some(l.address.port()) == port);
    found.map_or(0, |(number, _)| number)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() => host,
        _ => authority,
    }
}

/// What is said of an upstream that gets the client's own Host.
pub(super) fn kept_host(upstream: &crate::routes::plan::UpstreamPlan) -> &'static str {
    match upstream.preserve_host {
        true => ", with the client's Host",
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (authority, host) in [
            ("a:80", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a", "a"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn a_url_falls_into_authority_and_target() {
        assert_eq!(split("http://a:1/b?c"), Ok((Some("a:1"), "/b?c")));
        assert_eq!(split("https://a?c"), Ok((Some("a"), "?c")));
        assert_eq!(split("/b"), Ok((None, "/b")));
        assert!(split("b").is_err());
        assert!(split("ftp://b/").is_err());
    }
}
