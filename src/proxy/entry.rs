//! The first look at a request: only what can be read in one way goes further.
//!
//! Checks what the HTTP parser leaves open: Host, the form of the target, repeated framing fields,
//! dot segments, and over HTTP/2 the number of fields, their edges and the body's length. Everything
//! it refuses closes the connection, since the sender and we may not agree on where the request ends.

use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::pattern::has_dot_segment;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

/// The authority that was asked for: well formed, and one only. Holds no copy of its text.
#[derive(Debug, Clone)]
pub struct Entry {
    named: Named,
    host_end: usize,
}

#[derive(Debug, Clone)]
enum Named {
    Field(HeaderValue),
    Target(Authority),
    Nothing,
}

impl Entry {
    /// Host and port as sent.
    pub fn authority(&self) -> &str {
        match &self.named {
            Named::Field(field) => field.to_str().unwrap_or_default(),
            Named::Target(authority) => authority.as_str(),
            Named::Nothing => "",
        }
    }

    /// Host and port as sent, as the field of another request; nothing where none was named.
    pub fn field(&self) -> Option<HeaderValue> {
        match &self.named {
            Named::Field(field) => Some(field.clone()),
            Named::Target(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            Named::Nothing => None,
        }
    }

    /// The host, without a port.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        authority.get(..self.host_end).unwrap_or(authority)
    }
}

/// What one request may weigh.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The longest target, in bytes.
    pub target: usize,
    /// The most fields.
    pub fields: usize,
}

/// Accepts a request or says what is wrong with it.
///
/// # Errors
/// The refusal to answer with.
pub fn check(head: &Parts, bounds: Bounds) -> Result<Entry, Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::new(Reason::ConnectMethod, CONNECT_ADVICE));
    }
    if framing_is_ambiguous(&head.headers, head.version) {
        let detail = "the request's Transfer-Encoding can be read in more than one way; send it once, as chunked, in HTTP/1.1";
        return Err(Refusal::new(Reason::BadRequest, detail));
    }
    if head.version == Version::HTTP_2 {
        check_h2_fields(&head.headers, bounds.fields)?;
    }
    let named = authority(head)?;
    check_target(head, bounds.target)?;
    let mut entry = Entry { named, host_end: 0 };
    if !matches!(entry.named, Named::Nothing) {
        entry.host_end = host_of(entry.authority())
            .ok_or_else(|| {
                bad("the request's Host field is not a host name with an optional port")
            })?
            .len();
    }
    Ok(entry)
}

const CONNECT_ADVICE: &str = "this is a reverse proxy and opens no CONNECT tunnels: do not set it as HTTPS_PROXY, \
but point the SDK's base URL at it, as in http://127.0.0.1:8080/twilio/api or http://127.0.0.1:8080/vapi";

/// What the parser of HTTP/1 has seen to, and that of HTTP/2 leaves open: how many fields there are, that
/// none is padded (RFC 9113 8.2.1), and that the body has one length, which goes upstream as it is.
fn check_h2_fields(fields: &HeaderMap, most: usize) -> Result<(), Refusal> {
    if fields.len() > most {
        let detail = format!(
            "the request has more than {most} fields; limits.fields of the listener sets this"
        );
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refusal::new(Reason::TooLarge, detail).status(status));
    }
    if fields.values().any(is_padded) {
        return Err(bad(
            "a field of the request begins or ends with a space or a tab, as none may in HTTP/2",
        ));
    }
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |length: &HeaderValue| {
        !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
    };
    if !lengths.next().is_none_or(is_number) || lengths.next().is_some() {
        return Err(bad("the request's Content-Length is not one number"));
    }
    Ok(())
}

fn is_padded(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    matches!(value.first(), Some(b' ' | b'\t')) || matches!(value.last(), Some(b' ' | b'\t'))
}

fn check_target(head: &Parts, longest: usize) -> Result<(), Refusal> {
    if head
        .uri
        .scheme_str()
        .is_some_and(|scheme| scheme != "http" && scheme != "https")
    {
        return Err(bad(
            "the request's target names a scheme other than http and https",
        ));
    }
    let Some(target) = head.uri.path_and_query() else {
        return Err(bad("the request's target has no path"));
    };
    if target.as_str().len() > longest {
        let detail = format!(
            "the request's target is longer than {longest} bytes; limits.target of the listener sets this"
        );
        return Err(Refusal::new(Reason::TooLarge, detail).status(StatusCode::URI_TOO_LONG));
    }
    let path = target.path();
    let asterisk = path == "*" && head.method == Method::OPTIONS;
    if !asterisk && !path.starts_with('/') {
        return Err(bad("the request's target does not start with a slash"));
    }
    if has_dot_segment(path) {
        return Err(bad(
            "the request's path holds a . or .. segment, encoded or not; send the path it stands for",
        ));
    }
    Ok(())
}

fn bad(detail: &str) -> Refusal {
    Refusal::new(Reason::BadRequest, detail)
}

/// RFC 9112 6.1: chunked once and last is the only transfer coding that a request may have here,
/// and HTTP/1.0 knows none.
fn framing_is_ambiguous(fields: &HeaderMap, version: Version) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match codings.next() {
        None => false,
        Some(first) => {
            version != Version::HTTP_11
                || codings.next().is_some()
                || !first
                    .as_bytes()
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"chunked")
        }
    }
}

/// The one authority of a request: Host, `:authority` or the absolute target, and no two that differ.
fn authority(head: &Parts) -> Result<Named, Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("the request has more than one Host field"));
    }
    match (head.uri.authority(), host) {
        (Some(named), Some(host)) if !is_same(host, named, head.uri.scheme()) => Err(bad(
            "the request's Host field and the authority of its target differ",
        )),
        (Some(_), None) if head.version == Version::HTTP_11 => {
            Err(bad("the request has no Host field"))
        }
        (Some(named), _) => Ok(Named::Target(named.clone())),
        (None, Some(host)) => Ok(Named::Field(host.clone())),
        (None, None) if head.version == Version::HTTP_10 => Ok(Named::Nothing),
        (None, None) => Err(bad("the request has no Host field")),
    }
}

/// Whether two authorities are one: the port of the scheme goes without saying (RFC 9110 4.2.3).
pub fn is_same(host: &HeaderValue, named: &Authority, scheme: Option<&Scheme>) -> bool {
    let (host, named) = (host.as_bytes(), named.as_str().as_bytes());
    if host.eq_ignore_ascii_case(named) {
        return true;
    }
    let own = match scheme {
        Some(scheme) if *scheme == Scheme::HTTP => &b":80"[..],
        Some(scheme) if *scheme == Scheme::HTTPS => b":443",
        _ => return false,
    };
    without_port(host, own).eq_ignore_ascii_case(without_port(named, own))
}

/// An authority without this port, or without the colon that none follows.
fn without_port<'a>(authority: &'a [u8], port: &[u8]) -> &'a [u8] {
    let short = authority.strip_suffix(port);
    short.or(authority.strip_suffix(b":")).unwrap_or(authority)
}

/// The host part of `host[:port]` (RFC 3986 3.2.2), if it is well formed: no user, no path, no spaces.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        let end = authority.len() - port.len();
        (authority.get(..end)?, port)
    } else {
        let colon = authority.bytes().position(|b| b == b':');
        let end = colon.unwrap_or(authority.len());
        let (host, port) = authority.split_at_checked(end)?;
        if host.is_empty() || !is_reg_name(host) {
            return None;
        }
        (host, port)
    };
    let good_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.is_empty()
                || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
    };
    good_port.then_some(host)
}

/// Unreserved, sub-delimiters, and percent signs before two hexadecimal digits.
fn is_reg_name(host: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b);
    let mut parts = host.split('%');
    let first = parts.next().unwrap_or_default();
    first.bytes().all(plain)
        && parts.all(|part| {
            let hex = part.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
            hex == 2 && part.bytes().skip(2).all(plain)
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http::Request;

    fn parts(build: http::request::Builder) -> Parts {
        build.body(()).unwrap().into_parts().0
    }

    fn reason_of(build: http::request::Builder) -> Option<Reason> {
        let bounds = Bounds {
            target: 100,
            fields: 4,
        };
        check(&parts(build), bounds).err().map(|r| r.reason)
    }

    #[test]
    fn one_well_formed_host_is_needed() {
        for good in [
            "a",
            "a.b:80",
            "127.0.0.1:8080",
            "[::1]:80",
            "[::1]",
            "a_b.c",
            "x:",
        ] {
            assert_eq!(
                reason_of(Request::get("/").header("host", good)),
                None,
                "{good}"
            );
        }
        for bad in [
            "", "a b", "a/b", "u@a", "a:b", "a:99999", "[::1", "[x]", "a?b", "a#b", "a%zz", "a%1",
            "::1", "a:1:2",
        ] {
            let reason = reason_of(Request::get("/").header("host", bad));
            assert_eq!(reason, Some(Reason::BadRequest), "{bad}");
        }
        assert_eq!(reason_of(Request::get("/")), Some(Reason::BadRequest));
        let twice = Request::get("/").header("host", "a").header("host", "a");
        assert_eq!(reason_of(twice), Some(Reason::BadRequest));
    }

    #[test]
    fn an_absolute_target_must_agree_with_host() {
        assert_eq!(
            reason_of(Request::get("http://a/x").header("host", "a")),
            None
        );
        let differs = Request::get("http://a/x").header("host", "b");
        assert_eq!(reason_of(differs), Some(Reason::BadRequest));
        let bounds = Bounds {
            target: 100,
            fields: 4,
        };
        for (target, host) in [("http://a:80/x", "a"), ("http://a/x", "a:80")] {
            let head = parts(Request::get(target).header("host", host));
            let entry = check(&head, bounds).unwrap();
            assert_eq!(entry.authority(), head.uri.authority().unwrap().as_str());
        }
    }

    #[test]
    fn one_chunked_is_the_only_transfer_coding() {
        let with = |codings: &[&str]| {
            let mut build = Request::post("/").header("host", "a");
            for coding in codings {
                build = build.header("transfer-encoding", *coding);
            }
            reason_of(build)
        };
        assert_eq!(with(&["chunked"]), None);
        for bad in [
            &["chunked", "chunked"][..],
            &["gzip, chunked"],
            &["xchunked"],
            &["identity"],
        ] {
            assert_eq!(with(bad), Some(Reason::BadRequest), "{bad:?}");
        }
    }

    #[test]
    fn long_targets_and_dot_segments_are_refused() {
        let long = format!("/{}", "x".repeat(100));
        assert_eq!(
            reason_of(Request::get(long).header("host", "a")),
            Some(Reason::TooLarge)
        );
        let dots = Request::get("/a/%2e%2E/b").header("host", "a");
        assert_eq!(reason_of(dots), Some(Reason::BadRequest));
    }
}
