//! Who is calling, and the field that ties a request to its log lines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderName;
use ipnet::IpNet;

use crate::config::At;
use crate::config::schema::{self, AcceptFrom};
use crate::config::units::Identify as Written;
use crate::policy::identity::{Clients, Identify};
use crate::routes::plan::{Accept, Correlation};
use crate::routes::rule::Rule;

use super::notes::Notes;

/// Fields that mean something else already, to HTTP or to the vendors.
const RESERVED: [&str; 28] = [
    "accept",
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "keep-alive",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "proxy-status",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-stub",
];

pub(super) fn correlation(notes: &mut Notes<'_>) -> Correlation {
    let written = &notes.config().correlation;
    let at = At::root().key("correlation").key("header");
    let text = written
        .header
        .as_ref()
        .map_or("X-Correlation-ID", |text| text.as_str());
    let header = HeaderName::from_bytes(text.as_bytes());
    let shown = notes.source().shown(&at);
    match &header {
        Err(_) => notes.problem(
            &at,
            format!("{shown} is not a header name"),
            "X-Correlation-ID is usual",
        ),
        Ok(name) if RESERVED.contains(&name.as_str()) => notes.problem(
            &at,
            format!("{shown} has another meaning in HTTP"),
            "take a field of its own, such as X-Correlation-ID",
        ),
        Ok(_) => {}
    }
    let accept = match written.accept_from {
        None | Some(AcceptFrom::Anyone) => Accept::Anyone,
        Some(AcceptFrom::TrustedProxies) => Accept::TrustedProxies,
        Some(AcceptFrom::Nobody) => Accept::Nobody,
    };
    if accept == Accept::TrustedProxies && notes.config().clients.trusted_proxies.is_empty() {
        notes.problem(
            &At::root().key("correlation").key("accept_from"),
            "there are no trusted proxies to accept identifiers from",
            "list their networks under `clients.trusted_proxies`",
        );
    }
    let header = header.unwrap_or(HeaderName::from_static("x-correlation-id"));
    Correlation { header, accept }
}

pub(super) fn clients(notes: &mut Notes<'_>, rules: &[Rule]) -> Clients {
    let written = &notes.config().clients;
    let identify_by = identify_by(notes, written, rules);
    let identity_from = match &written.identity_from {
        Some(networks) => networks.iter().map(|network| network.get()).collect(),
        None => loopback(),
    };
    let trusted = written.trusted_proxies.iter().map(|network| network.get());
    let prefix = written.ipv6_prefix.map_or(64, |bits| bits.get());
    let prefix = u8::try_from(prefix).unwrap_or(128);
    Clients::new(identify_by, identity_from, trusted.collect(), prefix)
}

fn loopback() -> Vec<IpNet> {
    let v4 = IpNet::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
    let v6 = IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST));
    v4.into_iter().chain([v6]).collect()
}

fn identify_by(notes: &mut Notes<'_>, written: &schema::Clients, rules: &[Rule]) -> Vec<Identify> {
    let at = At::root().key("clients").key("identify_by");
    let list = written.identify_by.as_deref().unwrap_or(&[Written::Ip]);
    if notes.source().is_empty_list(&at) {
        notes.problem(
            &at,
            "no sign of identity is named",
            "name one, such as `ip`",
        );
    }
    let mut signs = Vec::with_capacity(list.len());
    for (index, sign) in list.iter().enumerate() {
        let at = at.index(index);
        match words(sign).parse() {
            Ok(sign) => signs.push(sign),
            Err(error) => notes.problem(&at, format!("{error}"), ""),
        }
        if let Written::Path(name) = sign
            && !rules.iter().any(|rule| rule.slot(name).is_some())
        {
            notes.problem(
                &at,
                format!("no route has a parameter `{name}`"),
                format!("write `{{{name}}}` in the path of a route, or drop this sign"),
            );
        }
        if list.iter().take(index).any(|before| before == sign) {
            notes.problem(&at, "this sign is named twice", "remove one of the two");
        } else if list.iter().take(index).any(|before| *before == Written::Ip) {
            let what = "this sign is never looked at: `ip` before it is always there";
            notes.warn(&at, what, "put `ip` last");
        }
    }
    signs
}

fn words(sign: &Written) -> String {
    match sign {
        Written::Header(name) => format!("header:{name}"),
        Written::Path(name) => format!("path:{name}"),
        Written::BasicUser => "basic_user".to_owned(),
        Written::Bearer => "bearer".to_owned(),
        Written::Ip => "ip".to_owned(),
    }
}
