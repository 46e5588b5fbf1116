//! What is allowed and rarely meant: `check` shows it, and a start goes on.

use std::net::{IpAddr, SocketAddr};

use crate::config::At;
use crate::policy::identity::Source as Sign;
use crate::policy::rate_limit::LimitBy;
use crate::routes::plan::{Authorizes, Listener, Plan};

use super::notes::Notes;

pub(super) fn look(plan: &Plan, notes: &mut Notes<'_>) {
    unreachable(plan, notes);
    unlimited(plan, notes);
    lumped(plan, notes);
    open(plan, notes);
    believed(notes);
    named(plan, notes);
    unencrypted(plan, notes);
    unused(plan, notes);
    kept(plan, notes);
}

/// Routes that an earlier one leaves nothing to.
fn unreachable(plan: &Plan, notes: &mut Notes<'_>) {
    for (index, route) in plan.routes.iter().enumerate() {
        let earlier = plan
            .matcher
            .shadowed_by(index)
            .and_then(|i| plan.routes.get(i));
        if let Some(earlier) = earlier {
            let what = format!(
                "the route {} never gets a request: {} (line {}) takes all that it would",
                route.name, earlier.name, earlier.line
            );
            notes.warn(
                &At::root().key("routes").index(index),
                what,
                "move it up, or remove it",
            );
        }
    }
}

/// Calls that cost money and that nothing counts.
fn unlimited(plan: &Plan, notes: &mut Notes<'_>) {
    for (index, route) in plan.routes.iter().enumerate() {
        let open = route.upstream.is_some() && route.verify.is_none();
        if open && route.limits.is_empty() {
            let what = format!("the route {} has no rate limit", route.name);
            let hint =
                "a client in a loop can spend all that the upstream grants: add `rate_limit: ...`";
            notes.warn(&At::root().key("routes").index(index), what, hint);
        }
    }
}

/// Limits by client where all clients look alike.
fn lumped(plan: &Plan, notes: &mut Notes<'_>) {
    let mut signs = plan.clients.identify_by().iter();
    let by_address = signs.all(|sign| *sign.source() == Sign::Ip);
    let one_machine = plan
        .process
        .listeners
        .iter()
        .all(|l| l.address.ip().is_loopback());
    let proxied = !notes.config().clients.trusted_proxies.is_empty();
    if !by_address || !one_machine || proxied {
        return;
    }
    for (index, limit) in plan.limits.iter().enumerate() {
        let outward =
            |r: &crate::routes::plan::RoutePlan| r.upstream.is_some() && r.limits.contains(&index);
        if limit.settings.by == LimitBy::Client && plan.routes.iter().any(outward) {
            let what = format!(
                "the limit {} lumps every caller into one: they are told apart by address, and all of them call from this machine",
                limit.name
            );
            let hint = "let the application send a header for each user: `clients: { identify_by: [header:X-Client-ID, ip] }`";
            notes.warn(&At::root().key("rate_limits").key(&limit.name), what, hint);
        }
    }
}

/// Listeners through which strangers reach an upstream.
fn open(plan: &Plan, notes: &mut Notes<'_>) {
    for (index, listener) in plan.process.listeners.iter().enumerate() {
        let Some(upstream) = reached(plan, index, listener) else {
            continue;
        };
        let what = format!(
            "whoever reaches {} can call {upstream} through the listener {}",
            listener.address, listener.name
        );
        let at = At::root().key("listen").index(index).key("address");
        notes.warn(
            &at,
            what,
            "bind it to 127.0.0.1, or keep the port within a private network",
        );
    }
}

/// Listeners where strangers could say who the client is.
fn named(plan: &Plan, notes: &mut Notes<'_>) {
    let trusted = !notes.config().clients.trusted_proxies.is_empty();
    for (index, listener) in plan.process.listeners.iter().enumerate() {
        if listener.proxy_protocol && !trusted && !listener.address.ip().is_loopback() {
            let what = format!(
                "whoever reaches {} can claim any address by the PROXY protocol",
                listener.address
            );
            let at = At::root().key("listen").index(index).key("proxy_protocol");
            let hint = "name the load balancers: `clients: { trusted_proxies: [...] }`";
            notes.warn(&at, what, hint);
        }
    }
}

/// The first upstream behind a listener that is not on loopback.
fn reached<'p>(plan: &'p Plan, index: usize, listener: &Listener) -> Option<&'p str> {
    if listener.address.ip().is_loopback() {
        return None;
    }
    plan.routes.iter().enumerate().find_map(|(number, route)| {
        let bound = plan.matcher.rule(number)?.listener;
        let reaches = bound.is_none_or(|bound| usize::from(bound) == index);
        let upstream = plan.upstreams.get(route.upstream?)?;
        let reaches = reaches && route.callers.is_none() && route.verify.is_none();
        reaches.then_some(upstream.name.as_str())
    })
}

/// Networks so wide that everybody is believed.
fn believed(notes: &mut Notes<'_>) {
    let clients = &notes.config().clients;
    let at = At::root().key("clients");
    let lists = [
        (
            "trusted_proxies",
            Some(&clients.trusted_proxies),
            "anyone can claim any address by X-Forwarded-For",
        ),
        (
            "identity_from",
            clients.identity_from.as_ref(),
            "anyone can claim to be any client",
        ),
    ];
    for (key, list, what) in lists {
        for (index, network) in list.into_iter().flatten().enumerate() {
            if network.get().prefix_len() == 0 {
                let hint = "name the networks that are yours";
                notes.warn(&at.key(key).index(index), what, hint);
            }
        }
    }
}

/// Credentials on their way over a network that others can read.
fn unencrypted(plan: &Plan, notes: &mut Notes<'_>) {
    for upstream in &plan.upstreams {
        let at = At::root().key("upstreams").key(&upstream.name).key("url");
        if !upstream.target.tls() && !is_near(&upstream.url) {
            let what = format!(
                "what is sent to {} is not encrypted, credentials included",
                upstream.name
            );
            notes.warn(&at, what, "use https://");
        }
    }
}

/// Whether a URL leads to this machine.
pub(super) fn is_near(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let bare = authority.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |text: &str| text.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback(bare) || is_loopback(host) || host == "localhost" || host.ends_with(".localhost")
}

/// Names that lead nowhere.
fn unused(plan: &Plan, notes: &mut Notes<'_>) {
    let routes = &plan.routes;
    let limits = plan.limits.iter().enumerate();
    let idle = |at: At, name: &str, notes: &mut Notes<'_>| {
        let what = format!("no route uses {name}");
        notes.warn(&at.key(name), what, "remove it, or name it in a route");
    };
    for (index, limit) in limits {
        if !routes.iter().any(|route| route.limits.contains(&index)) {
            idle(At::root().key("rate_limits"), &limit.name, notes);
        }
    }
    for (index, credential) in plan.credentials.iter().enumerate() {
        let uses = |authorizes: Authorizes| match authorizes {
            Authorizes::Held(used) | Authorizes::CallerInstead(used) => used == index,
            Authorizes::Caller => false,
        };
        let by_upstream = plan.upstreams.iter().any(|u| uses(u.authorizes));
        if !by_upstream && !routes.iter().any(|route| uses(route.authorizes)) {
            idle(At::root().key("credentials"), &credential.name, notes);
        }
    }
    for (index, breaker) in plan.breakers.iter().enumerate() {
        if !routes.iter().any(|route| route.breaker == Some(index)) {
            idle(At::root().key("breakers"), &breaker.name, notes);
        }
    }
    for (index, upstream) in plan.upstreams.iter().enumerate() {
        if !routes.iter().any(|route| route.upstream == Some(index)) {
            idle(At::root().key("upstreams"), &upstream.name, notes);
        }
    }
}

/// Caches that will stay empty.
fn kept(plan: &Plan, notes: &mut Notes<'_>) {
    for (index, route) in plan.routes.iter().enumerate() {
        let Some(rule) = plan.matcher.rule(index).filter(|_| route.cache.is_some()) else {
            continue;
        };
        let at = At::root().key("routes").index(index).key("cache");
        let reads = rule.methods.is_empty() || rule.methods.contains(&http::Method::GET);
        if !reads || route.creates == Some(true) {
            let what = format!(
                "the route {} will keep nothing: only GET is kept",
                route.name
            );
            notes.warn(&at, what, "remove it, or put it on a route for GET");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_near_and_everything_else_is_far() {
        for url in [
            "http://127.0.0.1:4010",
            "http://[::1]:80/x",
            "http://[::1]",
            "http://localhost:1",
            "http://a.localhost/x",
        ] {
            assert!(is_near(url), "{url}");
        }
        for url in [
            "http://mock:4010",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://{p}.example.com",
        ] {
            assert!(!is_near(url), "{url}");
        }
    }
}
