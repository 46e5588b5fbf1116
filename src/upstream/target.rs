//! Where an upstream's requests go: its URL, with at most one parameter leading the host.
//!
//! A parameter's value comes from the client, so it is put into a host only after the route's
//! allow-list has passed it; this module only joins the parts. Built by the route compiler.

use http::HeaderValue;
use std::sync::Arc;

/// One host to connect to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The name or address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The Host field (RFC 9110 7.2): the port is left out where it is the scheme's own.
    pub host_field: HeaderValue,
}

/// An upstream's URL.
#[derive(Debug, Clone)]
pub struct Target {
    tls: bool,
    port: u16,
    host: Host,
    base: String,
}

#[derive(Debug, Clone)]
enum Host {
    Fixed(Arc<Endpoint>),
    Leading { param: String, rest: String },
}

impl Target {
    /// Reads `http://host`, `https://host:port/base` or `https://{param}.host`.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the URL, without a piece of it: it may hold a password.
    pub fn parse(url: &str) -> Result<Target, String> {
        let (param, plain) = take_parameter(url)?;
        let parsed = url::Url::parse(&plain).map_err(|e| format!("{e}"))?;
        let tls = match parsed.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither http nor https".into()),
        };
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err("it has a query or fragment; give the path alone".into());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("it holds a user name or password; those do not belong in a URL".into());
        }
        let host = parsed.host_str().ok_or("it names no host")?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = parsed.port_or_known_default().unwrap_or(443);
        let host = match param {
            None => Host::Fixed(Arc::new(endpoint(tls, host, port)?)),
            Some(param) => {
                let rest = host
                    .strip_prefix(PLACEHOLDER)
                    .ok_or("a parameter must lead the host")?;
                let rest = rest.to_owned();
                Host::Leading { param, rest }
            }
        };
        let base = parsed.path().trim_end_matches('/').to_owned();
        Ok(Target {
            tls,
            port,
            host,
            base,
        })
    }

    /// The parameter that leads the host.
    pub fn parameter(&self) -> Option<&str> {
        match &self.host {
            Host::Fixed(_) => None,
            Host::Leading { param, .. } => Some(param),
        }
    }

    /// Host and, unless it is the scheme's own, port; behind the parameter, where there is one.
    pub fn authority(&self) -> String {
        match &self.host {
            Host::Fixed(endpoint) => endpoint.host_field.to_str().unwrap_or_default().to_owned(),
            Host::Leading { rest, .. } => match (self.tls, self.port) {
                (true, 443) | (false, 80) => rest.clone(),
                _ => format!("{rest}:{}", self.port),
            },
        }
    }

    /// The path before every request's own path; empty or starting with `/`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether TLS is spoken.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The endpoint, with `value` in the parameter's place. `None` when the result is no host.
    pub fn endpoint(&self, value: Option<&str>) -> Option<Arc<Endpoint>> {
        match (&self.host, value) {
            (Host::Fixed(endpoint), _) => Some(Arc::clone(endpoint)),
            (Host::Leading { rest, .. }, Some(value)) => {
                endpoint(self.tls, format!("{value}{rest}"), self.port)
                    .ok()
                    .map(Arc::new)
            }
            (Host::Leading { .. }, None) => None,
        }
    }
}

const PLACEHOLDER: &str = "trunkline-parameter";

/// The parameter's name, and the URL with a plain label in its place.
fn take_parameter(url: &str) -> Result<(Option<String>, String), String> {
    let Some(open) = url.find('{') else {
        return Ok((None, url.to_owned()));
    };
    let (before, rest) = url.split_at(open);
    let Some((name, after)) = rest.trim_start_matches('{').split_once('}') else {
        return Err("its brace is not closed".into());
    };
    if !before.ends_with("://") {
        return Err(
            "a parameter may only lead the host, as in https://{product}.example.com".into(),
        );
    }
    if !after.starts_with('.') {
        return Err(
            "a parameter must be followed by a fixed domain, as in {product}.example.com".into(),
        );
    }
    if name.is_empty() || after.contains('{') {
        return Err("it may hold one named parameter".into());
    }
    Ok((
        Some(name.to_owned()),
        format!("{before}{PLACEHOLDER}{after}"),
    ))
}

fn endpoint(tls: bool, host: String, port: u16) -> Result<Endpoint, String> {
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let field = match (tls, port) {
        (true, 443) | (false, 80) => shown,
        _ => format!("{shown}:{port}"),
    };
    let host_field = HeaderValue::from_str(&field).map_err(|e| e.to_string())?;
    Ok(Endpoint {
        tls,
        host,
        port,
        host_field,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_fixed_url_names_one_endpoint() {
        let target = Target::parse("https://api.vapi.ai/v2/").unwrap();
        let at = target.endpoint(None).unwrap();
        assert_eq!(
            (at.tls, at.host.as_str(), at.port),
            (true, "api.vapi.ai", 443)
        );
        assert_eq!(at.host_field, "api.vapi.ai");
        assert_eq!(target.base(), "/v2");
        let v6 = Target::parse("http://[::1]:8080")
            .unwrap()
            .endpoint(None)
            .unwrap();
        assert_eq!(
            (v6.host.as_str(), v6.host_field.to_str().unwrap()),
            ("::1", "[::1]:8080")
        );
    }

    #[test]
    fn a_parameter_leads_the_host() {
        let target = Target::parse("https://{product}.twilio.com").unwrap();
        assert_eq!(target.parameter(), Some("product"));
        assert_eq!(target.endpoint(None), None);
        let at = target.endpoint(Some("api.dublin.ie1")).unwrap();
        assert_eq!(at.host, "api.dublin.ie1.twilio.com");
    }

    #[test]
    fn bad_urls_say_why() {
        for url in [
            "ftp://x",
            "x",
            "https://",
            "https://u:p@x",
            "http://x?q",
            "http://x/#f",
            "https://{a",
            "https://a.{b}.c",
            "https://{a}",
            "https://{a}{b}.c",
            "https://{}.c",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
