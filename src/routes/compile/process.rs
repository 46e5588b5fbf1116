//! What is bound once, at start: listeners, the operator's addresses, threads and the drain.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::clock::Duration;
use crate::config::schema::{self, Listen, ListenLimits, ListenTimeouts, ListenTls};
use crate::config::units::{Count, Dur, Size, Text};
use crate::config::{At, Env};
use crate::routes::certificate::{Certificate, Unusable};
use crate::routes::plan::{Admin, Drain, Listener, ListenerLimits, ListenerTimeouts, Process};

use super::breakers::positive;
use super::notes::Notes;
use super::state;
use super::store;
use super::webhooks::public_address;

const DEFAULT_NAME: &str = "app";
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// The HTTP parser needs this much room for a head, and more than that many is no head.
const HEAD: std::ops::RangeInclusive<u64> = 8 << 10..=16 << 20;
/// The longest target that the HTTP library can hold.
const LONGEST_TARGET: u64 = 65_534;
/// The most fields that the HTTP library can hold is 32,768; nobody sends a third of that.
const MOST_FIELDS: u32 = 10_000;

pub(super) fn compile(notes: &mut Notes<'_>, env: Env<'_>) -> Process {
    let config = notes.config();
    let listeners = listeners(notes);
    let admin = admin(notes, config.admin.as_ref());
    let metrics = config.metrics.as_ref().and_then(|metrics| {
        let at = At::root().key("metrics");
        if metrics.address.is_none() {
            notes.absent(
                &at,
                "address",
                "`metrics` has no address",
                "give one: `address: 0.0.0.0:9464`",
            );
        }
        metrics.address.map(|address| address.get())
    });
    check_addresses(notes, &listeners, &admin, metrics);
    let threads = threads(notes, env);
    let drain = drain(notes);
    let state_file = state::compile(notes);
    let store = store::compile(notes);
    Process {
        listeners,
        admin,
        metrics,
        threads,
        drain,
        state_file,
        store,
        traces: None,
    }
}

/// The most workers that a process can have.
const MOST_THREADS: usize = 1024;

/// Workers, by the variable before the file; one per core where neither says another.
fn threads(notes: &mut Notes<'_>, env: Env<'_>) -> Option<usize> {
    const NAME: &str = "TRUNKLINE_THREADS";
    let file = notes.config().threads.map(|count| wide(count.get()));
    let Some(given) = env(NAME).filter(|given| !given.is_empty()) else {
        return file;
    };
    let number = given.to_str().and_then(|text| text.trim().parse().ok());
    match number {
        Some(0) => None,
        Some(number @ 1..=MOST_THREADS) => Some(number),
        Some(_) | None => {
            let what = format!("{NAME} is set to what is no whole number from 0 to {MOST_THREADS}");
            let hint =
                format!("set {NAME} to a number of workers, to 0 for one per core, or unset it");
            notes.problem(&At::root().key("threads"), what, hint);
            file
        }
    }
}

fn listeners(notes: &mut Notes<'_>) -> Vec<Listener> {
    let written = &notes.config().listen;
    if written.is_empty() {
        return vec![listener(
            notes,
            &At::root().key("listen").index(0),
            &Listen::default(),
            true,
        )];
    }
    let mut listeners: Vec<Listener> = Vec::with_capacity(written.len());
    for (index, listen) in written.iter().enumerate() {
        let at = At::root().key("listen").index(index);
        let listener = listener(notes, &at, listen, index == 0);
        if listeners.iter().any(|other| other.name == listener.name) {
            let name = notes.named(&at.key("name"), &format!("`{}`", listener.name));
            let what = format!("another listener is called {name} already");
            notes.problem(
                &at.key("name"),
                what,
                "give each listener a name of its own",
            );
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(notes: &mut Notes<'_>, at: &At, listen: &Listen, first: bool) -> Listener {
    let name = listen.name.as_ref().map(|name| name.as_str());
    match name {
        Some(name) => notes.check_name(&at.key("name"), name),
        None if first => {}
        None => notes.absent(
            at,
            "name",
            "this listener has no name",
            "give it one: `name: ...`",
        ),
    }
    if listen.address.is_none() && !first {
        notes.absent(
            at,
            "address",
            "this listener has no address",
            "give it one: `address: 127.0.0.1:8081`",
        );
    }
    Listener {
        name: name.unwrap_or(DEFAULT_NAME).to_owned(),
        address: listen
            .address
            .map_or(DEFAULT_LISTEN, |address| address.get()),
        public_url: listen
            .public_url
            .as_ref()
            .and_then(|text| public_address(notes, &at.key("public_url"), text)),
        timeouts: timeouts(notes, &at.key("timeouts"), &listen.timeouts),
        limits: limits(notes, &at.key("limits"), &listen.limits),
        proxy_protocol: listen.proxy_protocol.is_some_and(|flag| flag.get()),
        tls: listen
            .tls
            .as_ref()
            .and_then(|written| certificate(notes, &at.key("tls"), written)),
    }
}

/// The files of a listener that speaks TLS, each of which can be used now.
fn certificate(notes: &mut Notes<'_>, at: &At, written: &ListenTls) -> Option<Certificate> {
    let mut named = |key: &str, file: &Option<Text>| {
        if file.is_none() {
            let what = format!("`tls` has no {key}");
            notes.absent(at, key, what, "it needs `certificate_file` and `key_file`");
        }
        file.as_ref().map(|file| notes.path(file))
    };
    let chain = named("certificate_file", &written.certificate_file);
    let key = named("key_file", &written.key_file);
    let client_ca = written.client_ca_file.as_ref().map(|file| notes.path(file));
    let certificate = Certificate {
        chain: chain?,
        key: key?,
        client_ca,
    };
    if let Err(unusable) = certificate.read() {
        let key = match unusable {
            Unusable::Chain(_) => "certificate_file",
            Unusable::Key(_) => "key_file",
            Unusable::ClientCa(_) => "client_ca_file",
        };
        let at = at.key(key);
        let what = format!(
            "the file {} cannot be used: {unusable}",
            notes.source().shown(&at)
        );
        notes.problem(
            &at,
            what,
            "paths are relative to the directory of this file",
        );
    }
    Some(certificate)
}

fn timeouts(notes: &mut Notes<'_>, at: &At, written: &ListenTimeouts) -> ListenerTimeouts {
    let mut wait = |key: &str, value: Option<Dur>, default| {
        positive(notes, &at.key(key), value).unwrap_or(Duration::from_secs(default))
    };
    ListenerTimeouts {
        first_byte: wait("first_byte", written.first_byte, 10),
        head: wait("head", written.head, 10),
        body_idle: wait("body_idle", written.body_idle, 30),
        keep_alive: wait("keep_alive", written.keep_alive, 60),
        write_stall: wait("write_stall", written.write_stall, 30),
    }
}

fn limits(notes: &mut Notes<'_>, at: &At, written: &ListenLimits) -> ListenerLimits {
    let head = written.head.map_or(64 << 10, Size::get);
    if !HEAD.contains(&head) {
        notes.problem(
            &at.key("head"),
            "a head takes from 8KiB to 16MiB",
            "64KiB is usual",
        );
    }
    let target = written.target.map_or(8 << 10, Size::get);
    if !(1..=LONGEST_TARGET).contains(&target) {
        let what = format!("a target takes from 1 to {LONGEST_TARGET} bytes");
        notes.problem(&at.key("target"), what, "8KiB is usual");
    }
    let fields = written.fields.map_or(100, Count::get);
    if fields > MOST_FIELDS {
        let what = format!("a head holds at most {MOST_FIELDS} fields");
        notes.problem(&at.key("fields"), what, "100 is usual");
    }
    ListenerLimits {
        connections: wide(written.connections.map_or(10_000, Count::get)),
        head: usize::try_from(head).unwrap_or(usize::MAX),
        fields: wide(fields),
        target: usize::try_from(target).unwrap_or(usize::MAX),
        h2_streams: written.h2_streams.map_or(100, Count::get),
        body_rate: written.body_rate.map_or(500, Size::get),
        max_connection_age: positive(
            notes,
            &at.key("max_connection_age"),
            written.max_connection_age,
        ),
    }
}

fn wide(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn admin(notes: &mut Notes<'_>, written: Option<&schema::Admin>) -> Admin {
    let at = At::root().key("admin");
    let address = written.and_then(|admin| admin.address);
    let address = address.map_or(DEFAULT_ADMIN, |address| address.get());
    let read_only = written.and_then(|admin| admin.read_only);
    let read_only = read_only.is_some_and(|flag| flag.get());
    let token_file = written.and_then(|admin| admin.token_file.as_ref());
    if token_file.is_none() && !read_only && !address.ip().is_loopback() {
        notes.problem(
            &at.key("address"),
            "the admin listener is off loopback and takes writes from anyone",
            "add `token_file: ...`, or `read_only: true`",
        );
    }
    let token_file = token_file.map(|written| {
        let path = notes.path(written);
        check_token(notes, &at.key("token_file"), &path);
        path
    });
    Admin {
        address,
        token_file,
        read_only,
    }
}

/// The token must be there; what it is never leaves this function.
fn check_token(notes: &mut Notes<'_>, at: &At, path: &std::path::Path) {
    let shown = notes.source().shown(at);
    match std::fs::read_to_string(path) {
        Err(error) => {
            let what = format!("the token file {shown} cannot be read: {error}");
            notes.problem(at, what, "name a file that holds the token alone");
        }
        Ok(token) if token.trim().is_empty() => {
            let what = format!("the token file {shown} is empty");
            notes.problem(
                at,
                what,
                "put a long random token in it, such as of `openssl rand -hex 32`",
            );
        }
        Ok(_) => {}
    }
}

/// No two listeners can have one address.
fn check_addresses(
    notes: &mut Notes<'_>,
    listeners: &[Listener],
    admin: &Admin,
    metrics: Option<SocketAddr>,
) {
    let listen = At::root().key("listen");
    let named = listeners.iter().enumerate().map(|(index, listener)| {
        let what = format!("the listener {}", listener.name);
        (listener.address, listen.index(index).key("address"), what)
    });
    let mut all: Vec<(SocketAddr, At, String)> = named.collect();
    let admin_at = At::root().key("admin").key("address");
    all.push((admin.address, admin_at, "the admin listener".to_owned()));
    let metrics_at = At::root().key("metrics").key("address");
    all.extend(metrics.map(|address| (address, metrics_at, "metrics".to_owned())));
    for (index, (address, at, what)) in all.iter().enumerate() {
        let taken = all
            .iter()
            .take(index)
            .find(|(other, _, _)| overlap(*address, *other));
        if let Some((other, _, whose)) = taken {
            let what = format!("{what} cannot have {address}: {whose} has {other}");
            notes.problem(at, what, "give it another port");
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

fn drain(notes: &mut Notes<'_>) -> Drain {
    let written = &notes.config().drain;
    let grace = written.grace.map_or(Duration::from_secs(25), Dur::get);
    let quiet = written.quiet.map_or(Duration::from_secs(1), Dur::get);
    if quiet > grace && written.quiet.is_some() {
        let at = At::root().key("drain").key("quiet");
        notes.problem(
            &at,
            "`quiet` is longer than `grace`",
            "a stop ends after `grace` at the latest",
        );
    }
    Drain { grace, quiet }
}
