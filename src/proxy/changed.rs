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
use http::{HeaderMap, Uri, header};
use metrics::Counter;
use std::sync::Arc;

/// A change under way. Dropped before it is settled, its outcome is unknown.
pub struct Change {
    cache: Cache,
    dropped: Counter,
    endpoint: Arc<Endpoint>,
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
        Some(Change {
            cache: table.live.cache().clone(),
            dropped: metrics.counter("trunkline_cache_invalidations_total", &[]),
            endpoint: Arc::clone(&prepared.endpoint),
            resources: Resource::changed_at(&place(prepared)),
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
        let own = self.endpoint.host_field.to_str().unwrap_or_default();
        let names = [header::LOCATION, header::CONTENT_LOCATION];
        let named = names.iter().filter_map(|name| fields.get(name));
        let read = named.filter_map(|uri| Uri::try_from(uri.as_bytes()).ok());
        let near = read.filter(|uri| {
            let authority = uri.authority().map(|a| a.as_str());
            authority.is_none_or(|authority| authority.eq_ignore_ascii_case(own))
        });
        near.map(|uri| {
            Resource::at(&Place {
                tls: self.endpoint.tls,
                authority: own,
                path: uri.path(),
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
