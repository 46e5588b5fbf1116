//! What a request changes at its upstream is not given from the cache any longer.
//!
//! A request of an unsafe method that succeeds drops what is kept of its resource and of the collections
//! that it is in, for all accounts and whichever route kept it (RFC 9111 4.4). One of unknown outcome,
//! or left by its client under way, leaves them stale: asked about before they are given again, and
//! still there if the upstream fails. Nothing is done where no route keeps anything.

use crate::cache::{Cache, Place, Resource};
use crate::clock;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{Brought, Prepared};
use crate::proxy::refusal::Refusal;
use crate::upstream::target::Endpoint;
use http::{HeaderMap, HeaderValue, header};
use metrics::Counter;
use std::sync::Arc;
use url::Url;

/// A change under way. Dropped before it is settled, its outcome is unknown.
pub struct Change {
    cache: Cache,
    dropped: Counter,
    endpoint: Arc<Endpoint>,
    /// Its own address at the upstream.
    address: String,
    /// The host that it named there, where that is another.
    host: Option<HeaderValue>,
    resources: Vec<Resource>,
}

impl Change {
    /// What the request may change, if it may change anything that is kept.
    pub fn of(exchange: &Exchange, prepared: &Prepared) -> Option<Change> {
        let table = &exchange.table;
        if !table.keeps || prepared.head.method.is_safe() {
            return None;
        }
        let metrics = &table.live.metrics;
        let place = place(prepared);
        let scheme = if place.tls { "https" } else { "http" };
        Some(Change {
            cache: table.live.cache().clone(),
            dropped: metrics.counter("trunkline_cache_invalidations_total", &[]),
            endpoint: Arc::clone(&prepared.endpoint),
            address: format!("{scheme}://{}{}", place.authority, place.path),
            host: prepared.named_host().cloned(),
            resources: Resource::changed_at(&place),
        })
    }

    /// What became of it.
    pub fn settle(mut self, went: &Result<Brought, Refusal>) {
        let mut resources = std::mem::take(&mut self.resources);
        match went {
            Ok(brought) => match brought.0.0.status().as_u16() {
                200..=399 => {
                    resources.extend(self.named(brought.0.0.headers()));
                    let count = self.cache.changed(&resources);
                    self.dropped.increment(count as u64);
                }
                500.. => self.cache.maybe_changed(&resources, clock::now()),
                _ => {}
            },
            Err(refusal) if refusal.unknown => {
                self.cache.maybe_changed(&resources, clock::now());
            }
            Err(_) => {}
        }
    }
}

impl Change {
    /// What the answer names as made or changed, where that is at the same place (RFC 9111 4.4).
    fn named(&self, fields: &HeaderMap) -> Vec<Resource> {
        let names = [header::LOCATION, header::CONTENT_LOCATION];
        let mut named = names.iter().filter_map(|name| fields.get(name)).peekable();
        if named.peek().is_none() {
            return Vec::new();
        }
        let Ok(own) = Url::parse(&self.address) else {
            return Vec::new();
        };
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        let called = host.and_then(|host| Url::parse(&format!("{}://{host}", own.scheme())).ok());
        // Another scheme may be a proxy's doing before the upstream; another port is another server.
        let same = |a: &Url, b: &Url| a.host() == b.host() && a.port() == b.port();
        let near = named
            .filter_map(|reference| own.join(reference.to_str().ok()?).ok())
            .filter(|url| same(url, &own) || called.as_ref().is_some_and(|c| same(url, c)));
        let authority = self.endpoint.host_field.to_str().unwrap_or_default();
        near.map(|url| {
            Resource::at(&Place {
                tls: self.endpoint.tls,
                authority,
                path: url.path(),
            })
        })
        .collect()
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.resources.is_empty() {
            self.cache.maybe_changed(&self.resources, clock::now());
        }
    }
}

/// Where a request goes.
pub fn place(prepared: &Prepared) -> Place<'_> {
    let endpoint = &prepared.endpoint;
    Place {
        tls: endpoint.tls,
        authority: endpoint.host_field.to_str().unwrap_or_default(),
        path: prepared.head.uri.path(),
    }
}
