//! The way back: the address of ours that leads where a vendor's address leads.
//!
//! The inverse of matching and rewriting, for routes whose rewrite only changes what stands in front of
//! the rest. An address is turned only if a request for ours would be sent to exactly the vendor's.
//! Compiled with the route table; asked for each address in an answer.

use super::index::View;
use super::pattern::has_dot_segment;
use super::plan::Plan;
use http::{HeaderMap, Method};

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
}

impl Plan {
    /// The address of ours for a vendor's, if a route leads there.
    pub fn way_back(&self, address: &str, client: &Addressed<'_>) -> Option<String> {
        let (scheme, rest) = address.split_once("://")?;
        let (tls, scheme) = match (scheme, client.tls) {
            ("https", true) => (true, "https"),
            ("https", false) => (true, "http"),
            ("http", true) => (false, "https"),
            ("http", false) => (false, "http"),
            ("wss", true) => (true, "wss"),
            ("wss", false) => (true, "ws"),
            ("ws", true) => (false, "wss"),
            ("ws", false) => (false, "ws"),
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
        Some(format!("{scheme}://{}{path}{query}", client.authority))
    }

    /// Whether a request for that path of ours would be sent to the vendor's: an earlier route may
    /// take it, as long as it sends it to the same place.
    fn leads(&self, path: &str, vendors: Vendors<'_>, client: &Addressed<'_>) -> bool {
        let host = match client.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => client.authority,
        };
        let view = View {
            listener: client.listener,
            host,
            path,
            query: None,
            method: &Method::GET,
            headers: &HeaderMap::new(),
        };
        let Some((index, params)) = self.matcher.find(&view) else {
            return false;
        };
        let Some(found) = self.routes.get(index) else {
            return false;
        };
        let mut restricted = found.restricted.iter();
        let back = found.back.as_ref().and_then(|back| back.path(vendors));
        back.as_deref() == Some(path)
            && restricted
                .all(|(slot, name)| self.allows(found, name, params.get(*slot, path, host)))
    }
}

/// A vendor's address: whether TLS is spoken, the authority, the path.
type Vendors<'a> = (bool, &'a str, &'a str);

impl Back {
    /// Our path for a vendor's.
    fn path(&self, (tls, authority, path): Vendors<'_>) -> Option<String> {
        self.homes.iter().find_map(|home| {
            let label = home.label(tls, authority)?;
            let rest = path.strip_prefix(home.base.as_str())?;
            let rest = rest.strip_prefix(self.sent.as_str())?;
            if !(rest.is_empty() || rest.starts_with('/')) {
                return None;
            }
            let mut ours = String::new();
            for piece in &self.ours {
                match piece {
                    Some(text) => ours.push_str(text),
                    None => ours.push_str(&label),
                }
            }
            ours.push_str(rest);
            (!ours.is_empty()).then_some(ours)
        })
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
