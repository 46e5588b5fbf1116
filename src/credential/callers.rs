//! Who may call on our account: whoever holds a credential for others is an open relay otherwise.
//!
//! A caller proves itself by its address or by a token; and where a credential is held, no web page
//! may reach it through somebody's browser: not by a name of its own (DNS rebinding) and not from
//! another site. Pure: it sees a request's head, and decides. Called by the proxy once a request.

use super::secret::{Secret, Watched};
use crate::clock::Instant;
use crate::policy::scheme::credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use secrecy::zeroize::Zeroizing;
use std::fmt;
use std::net::IpAddr;

/// The field by which a caller proves itself; it never leaves us.
pub static CALLER_TOKEN: HeaderName = HeaderName::from_static("trunkline-caller-token");
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who may use a route.
pub struct Callers {
    /// Networks that they call from; `None` is anywhere.
    pub allow_from: Option<Vec<IpNet>>,
    /// The token that they send.
    pub token: Option<Watched>,
    /// Whether a credential of ours is at stake.
    pub holds: bool,
    /// Whether the route says which hosts it is for.
    pub names_host: bool,
}

/// What is known of a call.
pub struct Call<'a> {
    /// The host asked for, without a port.
    pub host: &'a str,
    /// Host and port asked for.
    pub authority: &'a str,
    /// Where it comes from.
    pub address: IpAddr,
    /// Its fields.
    pub fields: &'a HeaderMap,
}

/// How a caller has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It need not.
    None,
    /// By the field of its own.
    Field,
    /// By Authorization, which has then done its work.
    Authorization,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It asks for a host that the route does not name.
    Host,
    /// A web page of another site had a browser send it.
    Browser,
    /// It calls from elsewhere.
    Address,
    /// It sent no token.
    NoToken,
    /// It sent another token.
    Token,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::Host => {
                "the Host field is neither an address nor localhost nor named by the route: \
                call it by an address, or write `match: { host: ... }`"
            }
            Denied::Browser => {
                "a web page of another site had a browser send this, and a credential of ours would go with it"
            }
            Denied::Address => "the caller's address is not in allow_from",
            Denied::NoToken => {
                "the caller's token is missing: send what caller_token_file holds as Trunkline-Caller-Token, \
                as a Bearer token, or as the password of Basic authentication"
            }
            Denied::Token => "the caller's token is not the one that caller_token_file holds",
        })
    }
}

impl Callers {
    /// Lets a caller pass, and says how it has proved itself.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&self, call: &Call<'_>, now: Instant) -> Result<Proof, Denied> {
        if self.holds {
            if !self.names_host && !is_local_name(call.host) {
                return Err(Denied::Host);
            }
            if is_foreign(call) {
                return Err(Denied::Browser);
            }
        }
        if let Some(networks) = &self.allow_from {
            let address = call.address.to_canonical();
            if !networks.iter().any(|network| network.contains(&address)) {
                return Err(Denied::Address);
            }
        }
        match &self.token {
            None => Ok(Proof::None),
            Some(token) => proof(token, call.fields, now),
        }
    }
}

/// An address or a loopback name: no web page can have one for a name of its own.
fn is_local_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

/// Whether a page of another site is behind it, by what browsers say of themselves.
fn is_foreign(call: &Call<'_>) -> bool {
    let cross = |site: &HeaderValue| site.as_bytes().eq_ignore_ascii_case(b"cross-site");
    let foreign = |origin: &HeaderValue| !is_own(origin, call.authority);
    call.fields.get_all(&SEC_FETCH_SITE).iter().any(cross)
        || call.fields.get_all(header::ORIGIN).iter().any(foreign)
}

fn is_own(origin: &HeaderValue, authority: &str) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let own = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    own.is_some_and(|own| own.eq_ignore_ascii_case(authority))
}

fn proof(token: &Watched, fields: &HeaderMap, now: Instant) -> Result<Proof, Denied> {
    // A file that cannot be read lets nobody in.
    let Some(token) = token.get(now) else {
        return Err(Denied::Token);
    };
    if let Some(own) = only(fields, &CALLER_TOKEN) {
        return match token.is(own.as_bytes()) {
            true => Ok(Proof::Field),
            false => Err(Denied::Token),
        };
    }
    let Some(sent) = only(fields, &header::AUTHORIZATION) else {
        return Err(Denied::NoToken);
    };
    match is_in(&token, sent) {
        true => Ok(Proof::Authorization),
        false => Err(Denied::Token),
    }
}

/// The one field of that name; two are none.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = fields.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whether the token is what an Authorization field shows: a Bearer token, or a Basic password,
/// since the vendors' SDKs send one of the two.
fn is_in(token: &Secret, field: &HeaderValue) -> bool {
    let field = field.as_bytes();
    if let Some(shown) = credentials(field, "bearer") {
        return token.is(shown);
    }
    let pair = credentials(field, "basic").and_then(|pair| STANDARD.decode(pair).ok());
    let Some(pair) = pair.map(Zeroizing::new) else {
        return false;
    };
    let mut parts = pair.splitn(2, |byte| *byte == b':');
    parts.next();
    parts.next().is_some_and(|password| token.is(password))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::super::secret::Source;
    use super::*;
    use std::sync::Arc;

    fn holding() -> Callers {
        Callers {
            allow_from: None,
            token: None,
            holds: true,
            names_host: false,
        }
    }

    fn asking(token: &str) -> Callers {
        let secret = Arc::new(Secret::of(token.to_owned()));
        Callers {
            token: Some(Watched::new(Source::Inline(secret))),
            ..holding()
        }
    }

    fn met(
        callers: &Callers,
        host: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Proof, Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let call = Call {
            host: host.rsplit_once(':').map_or(host, |(host, _)| host),
            authority: host,
            address: "10.1.2.3".parse().unwrap(),
            fields: &map,
        };
        callers.admit(&call, Instant::now())
    }

    #[test]
    fn a_name_that_a_web_page_could_have_is_refused_unless_the_route_names_it() {
        for host in [
            "127.0.0.1:80",
            "[::1]:80",
            "10.0.0.7",
            "LOCALHOST:1",
            "a.localhost",
            "localhost.",
        ] {
            assert_eq!(met(&holding(), host, &[]), Ok(Proof::None), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil",
        ] {
            assert_eq!(met(&holding(), host, &[]), Err(Denied::Host), "{host}");
        }
        let naming = Callers {
            names_host: true,
            ..holding()
        };
        assert_eq!(met(&naming, "trunkline:8080", &[]), Ok(Proof::None));
        let nothing = Callers {
            holds: false,
            ..holding()
        };
        assert_eq!(
            met(&nothing, "evil.example", &[("origin", "null")]),
            Ok(Proof::None)
        );
    }

    #[test]
    fn no_page_of_another_site_gets_through() {
        let host = "127.0.0.1:8080";
        for own in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "http://127.0.0.1:8080")],
            &[("sec-fetch-mode", "cors")],
        ] {
            assert!(met(&holding(), host, own).is_ok(), "{own:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "Cross-Site")],
            &[("origin", "http://127.0.0.1:3000")],
            &[("origin", "null")],
            &[("origin", "")],
            &[
                ("origin", "http://127.0.0.1:8080"),
                ("origin", "https://evil.example"),
            ],
        ] {
            assert_eq!(
                met(&holding(), host, foreign),
                Err(Denied::Browser),
                "{foreign:?}"
            );
        }
    }

    #[test]
    fn only_the_networks_that_are_named_may_call() {
        let from = |network: &str| Callers {
            allow_from: Some(vec![network.parse().unwrap()]),
            ..holding()
        };
        assert!(met(&from("10.0.0.0/8"), "localhost", &[]).is_ok());
        assert_eq!(
            met(&from("192.168.0.0/16"), "localhost", &[]),
            Err(Denied::Address)
        );
    }

    #[test]
    fn the_token_may_come_in_three_ways_and_no_other() {
        let callers = asking("s3cret");
        let ways = [
            (("trunkline-caller-token", "s3cret"), Proof::Field),
            (("authorization", "Bearer s3cret"), Proof::Authorization),
            (
                ("authorization", "basic QUM6czNjcmV0"),
                Proof::Authorization,
            ),
        ];
        for (field, proof) in ways {
            assert_eq!(met(&callers, "localhost", &[field]), Ok(proof), "{field:?}");
        }
        assert_eq!(met(&callers, "localhost", &[]), Err(Denied::NoToken));
        for wrong in [
            &[("trunkline-caller-token", "s3cre")][..],
            &[("trunkline-caller-token", "")],
            &[
                ("trunkline-caller-token", "x"),
                ("authorization", "Bearer s3cret"),
            ],
            &[("authorization", "Bearer s3crets")],
            &[("authorization", "s3cret")],
            &[("authorization", "Basic s3cret")],
            &[("authorization", "Digest s3cret")],
        ] {
            assert_eq!(
                met(&callers, "localhost", wrong),
                Err(Denied::Token),
                "{wrong:?}"
            );
        }
        let twice = [
            ("authorization", "Bearer s3cret"),
            ("authorization", "Bearer x"),
        ];
        assert_eq!(met(&callers, "localhost", &twice), Err(Denied::NoToken));
    }
}
