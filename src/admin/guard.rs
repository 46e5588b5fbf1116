//! Who may look, and who may change something.
//!
//! Host is checked against DNS rebinding: a foreign page can make a browser ask our address under
//! its own name, never under an address or `localhost`. Writes take the token, compared in constant
//! time; without one, on loopback, a JSON body and no foreign Origin, which no page can forge. What
//! is refused is logged. The address that counts is the one that was bound, whatever a reload says.

use super::{Admin, Peer, problem};
use crate::policy::scheme::credentials;
use crate::proxy::entry::is_same;
use crate::routes::plan;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The page loads its own files and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Lets a request through, or answers it.
pub async fn check(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(client)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let fields = request.headers();
    if let Err(why) = names_one_host(fields, request.uri()) {
        return problem(StatusCode::BAD_REQUEST, why);
    }
    if !is_own_host(fields) {
        let detail = "the Host field must be an address or localhost, so that no web page can reach this by a name of its own";
        return problem(StatusCode::FORBIDDEN, detail);
    }
    if !request.method().is_safe() {
        let table = admin.tables.load();
        if let Err((status, why)) = may_write(fields, &table.plan.process.admin, admin.address) {
            let (method, path) = (request.method().as_str(), request.uri().path());
            tracing::warn!(%client, method, path, why, "an operator's write was refused");
            let mut answer = problem(status, &why);
            if status == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer");
                answer
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, scheme);
            }
            return answer;
        }
    }
    with_fences(next.run(request).await)
}

/// What keeps a browser from showing an answer inside another page, or from taking it for a script.
fn with_fences(mut answer: Response) -> Response {
    let fields = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    let resource_policy = header::HeaderName::from_static("cross-origin-resource-policy");
    fields.insert(resource_policy, HeaderValue::from_static("same-origin"));
    answer
}

/// RFC 9112 3.2: one Host field, and no target that names another.
fn names_one_host(fields: &HeaderMap, target: &Uri) -> Result<(), &'static str> {
    let host =
        only(fields, &header::HOST).map_err(|_| "the request has more than one Host field")?;
    let host = host.ok_or("the request has no Host field")?;
    match target.authority() {
        Some(named) if !is_same(host, named, target.scheme()) => {
            Err("the request's Host field and the authority of its target differ")
        }
        _ => Ok(()),
    }
}

/// A field's value, where it has one; several of them can be read in more than one way.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, String> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(format!("the request has more than one {name} field")),
    }
}

fn is_own_host(fields: &HeaderMap) -> bool {
    let Some(host) = fields.get(header::HOST).and_then(|h| h.to_str().ok()) else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = match bracketed {
        Some((name, rest)) => (name, rest.strip_prefix(':').unwrap_or(rest)),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return false;
    }
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn may_write(
    fields: &HeaderMap,
    admin: &plan::Admin,
    bound: SocketAddr,
) -> Result<(), (StatusCode, String)> {
    let forbidden = |why: &str| Err((StatusCode::FORBIDDEN, why.to_owned()));
    if admin.read_only {
        return forbidden("admin.read_only is set: this listener changes nothing");
    }
    match &admin.token_file {
        Some(file) => {
            let token = std::fs::read_to_string(file).map_err(|e| {
                (
                    StatusCode::FORBIDDEN,
                    format!("admin.token_file cannot be read: {e}"),
                )
            })?;
            let shown = fields
                .get(header::AUTHORIZATION)
                .and_then(|field| credentials(field.as_bytes(), "Bearer"));
            match shown {
                Some(shown) if is_equal(shown, token.trim().as_bytes()) => Ok(()),
                _ => Err((
                    StatusCode::UNAUTHORIZED,
                    "this takes the token of admin.token_file, as `Authorization: Bearer ...`"
                        .to_owned(),
                )),
            }
        }
        None if !bound.ip().is_loopback() => {
            forbidden("off loopback, writes take a token: set admin.token_file")
        }
        None => is_no_browsers_doing(fields).map_err(|why| (StatusCode::FORBIDDEN, why)),
    }
}

fn is_no_browsers_doing(fields: &HeaderMap) -> Result<(), String> {
    let media = only(fields, &header::CONTENT_TYPE)?
        .and_then(|t| t.to_str().ok())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(
            "without a token, writes must be sent as `Content-Type: application/json`".to_owned(),
        );
    }
    let site = only(fields, &HeaderName::from_static("sec-fetch-site"))?.map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err("the request comes from another site".to_owned());
    }
    let host = fields
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .unwrap_or_default();
    match only(fields, &header::ORIGIN)?.map(|o| o.to_str().unwrap_or_default()) {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        Some(_) => Err("the Origin field names another site".to_owned()),
    }
}

/// Compares in time that depends on the lengths alone.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    !b.is_empty() && aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_name_in_host_is_refused() {
        for good in [
            "127.0.0.1:9900",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9900",
            "10.0.0.7",
        ] {
            let map: HeaderMap = [(header::HOST, good.parse().unwrap())]
                .into_iter()
                .collect();
            assert!(is_own_host(&map), "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "127.0.0.1:9900@evil.example",
            "[::1]evil.example",
            "",
        ] {
            let map: HeaderMap = [(header::HOST, bad.parse().unwrap())].into_iter().collect();
            assert!(!is_own_host(&map), "{bad}");
        }
        assert!(!is_own_host(&HeaderMap::new()));
    }

    #[test]
    fn an_absolute_target_must_name_the_same_host_and_the_port_of_its_scheme_goes_without_saying() {
        let names = |target: &str, host: &'static str| {
            names_one_host(&fields(&[("host", host)]), &target.parse().unwrap())
        };
        for (target, host) in [
            ("/x", "127.0.0.1"),
            ("http://127.0.0.1:80/x", "127.0.0.1"),
            ("http://127.0.0.1/x", "127.0.0.1:80"),
            ("http://LOCALHOST/x", "localhost:"),
            ("http://[::1]:80/x", "[::1]"),
        ] {
            assert_eq!(names(target, host), Ok(()), "{target} {host}");
        }
        for (target, host) in [
            ("http://127.0.0.1:81/x", "127.0.0.1"),
            ("http://127.0.0.1:443/x", "127.0.0.1"),
            ("http://127.0.0.1/x", "127.0.0.2"),
            ("http://evil.example:80/x", "127.0.0.1"),
        ] {
            assert!(names(target, host).is_err(), "{target} {host}");
        }
    }

    #[test]
    fn no_web_page_can_make_a_write() {
        let host = ("host", "127.0.0.1:9900");
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(is_no_browsers_doing(&fields(&[host, json])).is_ok());
        assert!(
            is_no_browsers_doing(&fields(&[host, json, ("origin", "http://127.0.0.1:9900")]))
                .is_ok()
        );
        assert!(
            is_no_browsers_doing(&fields(&[host, json, ("origin", "http://evil.example")]))
                .is_err()
        );
        assert!(is_no_browsers_doing(&fields(&[host, json, ("origin", "null")])).is_err());
        assert!(is_no_browsers_doing(&fields(&[host, ("content-type", "text/plain")])).is_err());
        assert!(is_no_browsers_doing(&fields(&[host])).is_err());
        for (site, allowed) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
        ] {
            let sent = fields(&[host, json, ("sec-fetch-site", site)]);
            assert_eq!(is_no_browsers_doing(&sent).is_ok(), allowed, "{site}");
        }
    }

    #[test]
    fn the_bound_address_counts_and_not_what_a_reload_says_of_it() {
        let admin = plan::Admin {
            address: "127.0.0.1:9900".parse().unwrap(),
            token_file: None,
            read_only: false,
        };
        let sent = fields(&[
            ("host", "127.0.0.1:9900"),
            ("content-type", "application/json"),
        ]);
        assert!(may_write(&sent, &admin, "127.0.0.1:9900".parse().unwrap()).is_ok());
        assert!(may_write(&sent, &admin, "0.0.0.0:9900".parse().unwrap()).is_err());
    }
}
