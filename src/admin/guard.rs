//! Who may look, and who may change something.
//!
//! Host is checked against DNS rebinding: a foreign page can make a browser ask our address under
//! its own name, never under an address or `localhost`. Writes take the token, compared in constant
//! time; without one, on loopback, a JSON body and no foreign Origin, which no page can forge.

use super::{Admin, problem};
use crate::routes::plan;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;
use std::sync::Arc;

/// Lets a request through, or answers it.
pub async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let fields = request.headers();
    if !is_own_host(fields) {
        let detail = "the Host field must be an address or localhost, so that no web page can reach this by a name of its own";
        return problem(StatusCode::FORBIDDEN, detail);
    }
    if !request.method().is_safe() {
        let table = admin.tables.load();
        if let Err(detail) = may_write(fields, &table.plan.process.admin) {
            return problem(StatusCode::FORBIDDEN, &detail);
        }
    }
    next.run(request).await
}

fn is_own_host(fields: &HeaderMap) -> bool {
    let Some(host) = fields.get(header::HOST).and_then(|h| h.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn may_write(fields: &HeaderMap, admin: &plan::Admin) -> Result<(), String> {
    if admin.read_only {
        return Err("admin.read_only is set: this listener changes nothing".to_owned());
    }
    match &admin.token_file {
        Some(file) => {
            let token = std::fs::read_to_string(file)
                .map_err(|e| format!("admin.token_file cannot be read: {e}"))?;
            let shown = fields
                .get(header::AUTHORIZATION)
                .and_then(|a| a.to_str().ok())
                .and_then(|a| a.strip_prefix("Bearer "));
            match shown {
                Some(shown) if is_equal(shown.trim(), token.trim()) => Ok(()),
                _ => Err(
                    "this takes the token of admin.token_file, as `Authorization: Bearer ...`"
                        .to_owned(),
                ),
            }
        }
        None if !admin.address.ip().is_loopback() => {
            Err("off loopback, writes take a token: set admin.token_file".to_owned())
        }
        None => is_no_browsers_doing(fields),
    }
}

fn is_no_browsers_doing(fields: &HeaderMap) -> Result<(), String> {
    let media = fields
        .get(header::CONTENT_TYPE)
        .and_then(|t| t.to_str().ok())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(
            "without a token, writes must be sent as `Content-Type: application/json`".to_owned(),
        );
    }
    let host = fields
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .unwrap_or_default();
    match fields
        .get(header::ORIGIN)
        .map(|o| o.to_str().unwrap_or_default())
    {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        Some(_) => Err("the Origin field names another site".to_owned()),
    }
}

/// Compares in time that depends on the lengths alone.
fn is_equal(a: &str, b: &str) -> bool {
    !b.is_empty()
        && aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
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
            "",
        ] {
            let map: HeaderMap = [(header::HOST, bad.parse().unwrap())].into_iter().collect();
            assert!(!is_own_host(&map), "{bad}");
        }
        assert!(!is_own_host(&HeaderMap::new()));
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
    }
}
