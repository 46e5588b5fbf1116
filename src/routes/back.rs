//! The way back: the address of ours that leads where a vendor's address leads.
//!
//! The inverse of matching and rewriting, for routes whose rewrite only changes what stands in front of
//! the rest. An address is turned only if a request for ours would be sent to exactly the vendor's. One
//! without a host is meant at the vendor's, and is turned where the client would make another of it.
//! Compiled with the route table; asked for each address in an answer.

use super::index::View;
use super::pattern::has_dot_segment;
use super::plan::{Plan, RoutePlan};
use crate::webhook::{PublicUrl, scheme};
use http::{HeaderMap, Method};
use url::Url;

/// One route, read from its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    /// Where its upstream is, by any name.
    pub homes: Vec<Home>,
    /// What stands before the rest in the path that is sent.
    pub sent: String,
    /// And in ours; `None` is the parameter that leads the upstream's host.
    pub ours: Vec<Option<String>>,
}

/// Scheme and host of a vendor, and the path in front of every path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The host and, unless it is the scheme's own, the port; behind the parameter, where there is one.
    pub authority: String,
    /// The name of the parameter that leads it.
    pub parameter: Option<String>,
    /// Empty, or starting with a slash.
    pub base: String,
}

/// A client of ours, as it addressed us.
#[derive(Debug, Clone, Copy)]
pub struct Addressed<'a> {
    /// Whether it speaks TLS to us.
    pub tls: bool,
    /// Host and port as it named them.
    pub authority: &'a str,
    /// The number of the listener that it came in on.
    pub listener: u16,
    /// Where the configuration says that clients know this listener.
    pub public: Option<&'a PublicUrl>,
}

impl Addressed<'_> {
    /// The address of that target of ours.
    fn address(&self, websocket: bool, target: &str) -> String {
        if let Some(public) = self.public {
            return public.address(websocket, target);
        }
        let scheme = scheme(websocket, self.tls);
        format!("{scheme}://{}{target}", self.authority)
    }

    fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => self.authority,
        }
    }
}

/// Stands for whatever host a path is resolved at.
const SOMEWHERE: &str = "http://somewhere.invalid";

impl Plan {
    /// The address of ours for a vendor's, if a route leads there.
    pub fn way_back(&self, address: &str, client: &Addressed<'_>) -> Option<String> {
        let (scheme, rest) = address.split_once("://")?;
        let (tls, websocket) = match scheme {
            "https" => (true, false),
            "http" => (false, false),
            "wss" => (true, true),
            "ws" => (false, true),
            _ => return None,
        };
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if client.authority.is_empty() || !is_plain(rest) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end)?;
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let (path, query) = target.split_at_checked(end)?;
        if has_dot_segment(path) {
            return None;
        }
        let vendors = (tls, authority, path);
        let mut ours = self.routes.iter().filter_map(|route| {
            let path = route.back.as_ref()?.path(vendors)?;
            self.leads(&path, vendors, client).then_some(path)
        });
        let path = ours.next()?;
        Some(client.address(websocket, &(path + query)))
    }

    /// What to say for a reference without a host, in the answer to a request for `path` on that route: a
    /// path of ours. None: what the client makes of it leads there, or no route does.
    pub fn way_here(
        &self,
        (route, path): (usize, &str),
        reference: &str,
        client: &Addressed<'_>,
    ) -> Option<String> {
        let route = self.routes.get(route)?;
        let base = self.upstreams.get(route.upstream?)?.target.base();
        let back = route.back.as_ref()?;
        let (label, rest) = back.split(path)?;
        let sent = format!("{base}{}{rest}", back.sent);
        let theirs = resolved(&sent, reference)?;
        let there = (label, base, theirs.path());
        let is_there = |other: &&RoutePlan| other.upstream == route.upstream;
        let ours = self.routes.iter().filter(is_there).find_map(|other| {
            let ours = other.back.as_ref()?.ours(there)?;
            let found = self.found(&ours, client).filter(is_there)?;
            (found.back.as_ref()?.ours(there)? == ours).then_some(ours)
        })?;
        let before = client.public.map_or("", PublicUrl::base);
        let ours = format!("{before}{ours}");
        let itself = resolved(&format!("{before}{path}"), reference)?;
        let behind = theirs.as_str().strip_prefix(SOMEWHERE)?;
        let behind = behind.strip_prefix(theirs.path())?;
        (itself.path() != ours).then(|| ours + behind)
    }

    /// Whether a request for that path of ours would be sent to the vendor's: an earlier route may
    /// take it, as long as it sends it to the same place.
    fn leads(&self, path: &str, vendors: Vendors<'_>, client: &Addressed<'_>) -> bool {
        let found = self.found(path, client);
        let back = found.and_then(|found| found.back.as_ref()?.path(vendors));
        back.as_deref() == Some(path)
    }

    /// The route that a client's request for that path would take, if it is one to be taken.
    fn found(&self, path: &str, client: &Addressed<'_>) -> Option<&RoutePlan> {
        let host = client.host();
        let view = View {
            listener: client.listener,
            host,
            path,
            query: None,
            method: &Method::GET,
            headers: &HeaderMap::new(),
        };
        let (index, params) = self.matcher.find(&view)?;
        let found = self.routes.get(index)?;
        let mut restricted = found.restricted.iter();
        restricted
            .all(|(slot, name)| self.allows(found, name, params.get(*slot, path, host)))
            .then_some(found)
    }
}

/// What a reference means beside that path (RFC 3986 5.2), if it stays at the same host.
fn resolved(path: &str, reference: &str) -> Option<Url> {
    let beside = Url::parse(SOMEWHERE).ok()?.join(path).ok()?;
    let target = beside.join(reference).ok()?;
    (target.origin() == beside.origin() && beside.as_str().starts_with(SOMEWHERE)).then_some(target)
}

/// A vendor's address: whether TLS is spoken, the authority, the path.
type Vendors<'a> = (bool, &'a str, &'a str);

impl Back {
    /// Our path for a vendor's.
    fn path(&self, (tls, authority, path): Vendors<'_>) -> Option<String> {
        self.homes.iter().find_map(|home| {
            let label = home.label(tls, authority)?;
            self.ours((&label, home.base.as_str(), path))
        })
    }

    /// Our path for one at the upstream, below its base; the label stands for the parameter.
    fn ours(&self, (label, base, path): (&str, &str, &str)) -> Option<String> {
        let rest = path.strip_prefix(base)?.strip_prefix(self.sent.as_str())?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let mut ours = String::new();
        for piece in &self.ours {
            match piece {
                Some(text) => ours.push_str(text),
                None if label.is_empty() => return None,
                None => ours.push_str(label),
            }
        }
        ours.push_str(rest);
        (!ours.is_empty()).then_some(ours)
    }

    /// What stands for the parameter in a path of ours, and the rest behind it.
    fn split<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        let (mut label, mut left) = ("", path);
        for piece in &self.ours {
            match piece {
                Some(text) => left = left.strip_prefix(text.as_str())?,
                None => (label, left) = left.split_at(left.find('/').unwrap_or(left.len())),
            }
        }
        (left.is_empty() || left.starts_with('/')).then_some((label, left))
    }
}

impl Home {
    /// What its parameter stands for in an authority; empty where it has none.
    fn label(&self, tls: bool, authority: &str) -> Option<String> {
        if tls != self.tls {
            return None;
        }
        let own = if tls { ":443" } else { ":80" };
        let authority = authority.strip_suffix(own).unwrap_or(authority);
        let authority = authority.to_ascii_lowercase();
        match &self.parameter {
            None => (authority == self.authority).then(String::new),
            Some(_) => {
                let label = authority.strip_suffix(self.authority.as_str())?;
                let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                (!label.is_empty() && label.bytes().all(part)).then(|| label.to_owned())
            }
        }
    }
}
