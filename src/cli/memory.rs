//! How much memory the configuration allows, in one line at the start.
//!
//! Every table and every buffer has a bound that the file or this program sets, so that traffic
//! cannot choose how much is held. The line shows the terms, since the sum is a worst case that no
//! healthy day comes near. Called by `run`.

use crate::guard;
use crate::live;
use crate::routes::plan::{Listener, Plan};
use crate::server::gather;
use crate::telemetry::access;
use crate::upstream::connect;

/// One connection's socket, task, state and the exchange on it, beside the buffers.
const STATE: u64 = 32 << 10;
/// The head of an upstream's answer, and what is written to it, at the most.
const UPSTREAM: u64 = 2 * (64 << 10);
/// What the connections hold beyond that which move large bodies in large pieces: one that was read, one on its way,
/// and one that waits to be written.
const QUICK: u64 = (connect::QUICK * 3 * connect::PIECE) as u64;
/// Over HTTP/2, what a connection may have sent to us and not been asked for.
const WINDOW: u64 = 1 << 20;
/// Over HTTP/2, the room of what waits to be written together.
const GATHERED: u64 = (2 * gather::PIECE) as u64;
/// Over HTTP/2, what one stream's answer may hold back, beside its upstream connection.
const SEND: u64 = 256 << 10;
/// A limit keeps a client in at most so many bytes.
const CLIENT: u64 = 64;

/// The worst case of each kind, in bytes.
struct Bound {
    /// Clients that speak HTTP/1.1, with an exchange each.
    connections: u64,
    /// Bodies that are held whole.
    bodies: u64,
    /// What it takes beyond that if all of them speak HTTP/2 and every stream is full.
    http2: u64,
    /// Clients that limits tell apart.
    limits: u64,
    /// Records of creates, recorded answers, and the access log's buffer.
    records: u64,
    /// Stored answers, and those that are being stored.
    cache: u64,
}

impl Bound {
    fn of(plan: &Plan) -> Self {
        let listeners = &plan.process.listeners;
        let sum =
            |each: fn(&Listener) -> u64| listeners.iter().map(each).fold(0, u64::saturating_add);
        let clients = plan.limits.iter().map(|limit| limit.settings.max_clients);
        let answers = live::ANSWER_BYTES + live::EVENT_BYTES;
        let records = guard::Bounds::default().bytes + answers + access::BUFFER;
        Bound {
            connections: sum(over_http1).saturating_add(QUICK),
            bodies: plan.held_bodies,
            http2: sum(over_http2),
            limits: clients
                .map(wide)
                .fold(0, u64::saturating_add)
                .saturating_mul(CLIENT),
            records: wide(records),
            // Answers under way to it may take as much again.
            cache: plan.cache_bytes.saturating_mul(2),
        }
    }

    /// While clients speak HTTP/1.1.
    fn usual(&self) -> u64 {
        [self.bodies, self.limits, self.records, self.cache]
            .into_iter()
            .fold(self.connections, u64::saturating_add)
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// All connections of a listener, each with a request of HTTP/1.1 under way.
fn over_http1(listener: &Listener) -> u64 {
    let head = wide(listener.limits.head.max(8192));
    let each = STATE
        .saturating_add(head.saturating_mul(2))
        .saturating_add(UPSTREAM);
    each.saturating_mul(wide(listener.limits.connections))
}

/// What it takes beyond that if all of them speak HTTP/2 and every stream is full.
fn over_http2(listener: &Listener) -> u64 {
    let head = wide(listener.limits.head);
    let stream = STATE
        .saturating_add(SEND)
        .saturating_add(UPSTREAM)
        .saturating_add(head);
    let streams = stream.saturating_mul(listener.limits.h2_streams.into());
    let each = streams.saturating_add(WINDOW + GATHERED);
    each.saturating_mul(wide(listener.limits.connections))
}

/// Says how much memory the plan allows.
pub(super) fn announce(plan: &Plan) {
    let bound = Bound::of(plan);
    tracing::info!(
        connections_mib = mib(bound.connections),
        bodies_mib = mib(bound.bodies),
        limits_mib = mib(bound.limits),
        records_mib = mib(bound.records),
        cache_mib = mib(bound.cache),
        http2_more_mib = mib(bound.http2),
        "the configuration bounds memory at {} MiB while clients speak HTTP/1.1",
        mib(bound.usual())
    );
}

/// Rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::compile;

    fn bound(yaml: &str) -> Bound {
        let text = format!(
            "{yaml}\nroutes: [{{ name: a, match: {{ path: / }}, stub: {{ status: 204 }} }}]\n"
        );
        match compile::parse("test.yaml", &text, &|_| None) {
            Ok(plan) => Bound::of(&plan),
            Err(problems) => panic!("{problems}"),
        }
    }

    #[test]
    fn every_bound_of_the_file_moves_the_line() {
        let listen = |limits: &str| format!("listen: [{{ limits: {{ {limits} }} }}]\n");
        let usual = bound(&listen("connections: 100"));
        let each = STATE + 2 * (64 << 10) + UPSTREAM;
        assert_eq!(usual.connections, QUICK + 100 * each);
        let more = bound(&listen("connections: 200"));
        assert_eq!(more.connections - usual.connections, 100 * each);
        let heads = bound(&listen("connections: 100, head: 128KiB"));
        assert_eq!(heads.connections - usual.connections, 100 * 2 * (64 << 10));
        let streams = bound(&listen("connections: 100, h2_streams: 50"));
        assert!(streams.http2 < usual.http2);
        let limits = "rate_limits: { a: { requests: 1, per: 1s, max_clients: 1000 } }\n";
        assert_eq!(bound(limits).limits - usual.limits, 1000 * CLIENT);
        let cache = bound("cache: { max_bytes: 10MiB }\n");
        assert_eq!(cache.cache, 20 << 20);
        assert_eq!(bound("held_bodies: 10MiB\n").bodies, 10 << 20);
    }
}
