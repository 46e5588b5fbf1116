//! Trunkline: a resilience sidecar. This page is its architecture.
//!
//! It stands between an application and the vendors it calls, and decides for each request whether
//! and how it goes there. Read the rooms in the order in which a request meets them:
//!
//! ```text
//!     client
//!       | server          accept, protocol, waits: one worker a core, each with a runtime of its own
//!       v
//!     proxy::handle       takes ONE route table and ONE exchange; always answers
//!       | entry           one reading only ------------------> Refusal: bad_request, too_large
//!       | admit           find the route --------------------> Refusal: no_route
//!       |                 may it use what we hold? -----------> Refusal: caller_denied
//!       |                 spend its limits ------------------> Refusal: rate_limited
//!       | verify          who really called -----------------> Refusal: bad_signature
//!       | canned          stub, if stubs are on -------------> canned answer, or stub_disabled
//!       | cached          kept, or being fetched for another -> kept answer, or that one as it comes
//!       v
//!     proxy::forward      under one deadline
//!       | circuit open? --------------------------------------> Refusal: circuit_open
//!       | create          asks key and guard, follows the attempt --> Refusal: outcome_unknown
//!       | place           one per attempt, first come -------> Refusal: upstream_busy
//!       | permit          one per attempt; tells the breaker when dropped
//!       | credential      what we hold for the caller --------> Refusal: credential_dead
//!       | upstream::send  a warm or fresh connection; what went wrong, and was anything sent
//!       | retry           again only what is provably safe
//!       | fallback        somebody else, only where nothing can have happened
//!       v
//!     proxy::readdress    addresses that would lead around us become ours
//!       v
//!     proxy::body         the answer, watched to its END: outcome, metrics, one access line
//!       | tunnel          bytes both ways after a 101, in the client connection's own task
//!       v
//!     client
//! ```
//!
//! # Rooms
//!
//! | room | what it is | what it never does |
//! |---|---|---|
//! | [`config`] | what the operator wrote, and every problem in it at once | opens a socket, keeps state |
//! | [`routes`] | what we run on: immutable, compiled from the configuration by `routes::compile` alone | changes after it is installed |
//! | [`policy`] | decisions: breaker, rate limit, identity, outcome; `now` is an argument | reads a clock, spawns, waits |
//! | [`profile`] | what a vendor means by its answers, as data | sends anything |
//! | [`stub`] | canned answers, templates, sequences | touches a socket |
//! | [`upstream`] | the outside: names, TCP, TLS, connections, one attempt, its errors | decides to repeat or to count |
//! | [`telemetry`] | metrics, traces, access log, the process's own log | waits for a reader |
//! | [`credential`] | what we hold for callers: secrets, tokens, and who may use them | shows any of it |
//! | [`webhook`] | whether a webhook is its vendor's, by signature | knows a route, prints a secret |
//! | [`guard`] | creates of unknown outcome, in memory and in a state file | knows a request beyond its bytes |
//! | [`herald`] | signed news of circuits for a receiver outside | makes a request or a breaker wait |
//! | [`fleet`] | what replicas share, in a Redis or Valkey: limits, news of circuits, records of creates, kept answers, changes | makes a request wait longer than one time-out |
//! | [`cache`] | answers that are given again: verdicts, keys, the store, one flight for all | knows a request beyond its head |
//! | [`live`] | state that outlives a reload, by name | knows a route table |
//! | [`proxy`] | one request's journey; `refusal.rs` alone chooses a status of ours | sees two tables in one exchange |
//! | [`server`] | sockets, threads, TLS, waits of clients, drain | knows what is done with a request |
//! | [`reload`] | another table while requests run, or the old one, whole | half of either |
//! | [`admin`] | the operator's listener | stands on a request's path |
//! | [`cli`] | one file a verb | is imported |
//!
//! Which room may import which is a table in `tests/architecture.rs`.
//!
//! # Invariants
//!
//! * After compile no type of the configuration exists, and a request never sees two tables.
//! * Only [`clock`] asks the time; policies are given it.
//! * Every attempt holds a permit that reports when it is dropped: a cancelled exchange leaks none.
//! * The exchange rides on the answer's body and counts and logs itself once, however it ended.
//! * A truncated body never looks complete, in either direction.
//! * Nothing read from the network can panic; if it does, one exchange answers 500.
//! * Label values come from the configuration; no secret has a `Debug`.
//!
//! # Decisions that a reader may wonder about
//!
//! * **Connections are our own, not a library pool's** ([`upstream::pool`]): retry safety rests on
//!   knowing whether a byte of a request left, on which kind of connection, and for how long that
//!   had been idle; an opening circuit drops the idle ones. A connection is driven by the exchange
//!   that uses it, in the same task, which also saves a wake-up each way.
//! * **What wakes another process waits for its turn** ([`upstream::batch`]): requests that are ready
//!   together are sent together, and so are their answers.
//! * **Policies are shared by all workers**, so that two cores do not double a limit or the number
//!   of probes. In the closed state the breaker costs a few atomic loads.
//! * **A tunnel is what a client's connection becomes** ([`proxy::tunnel`]), not a task beside it: it
//!   counts among the connections, a stop waits for it, and the order to end reaches it, with no
//!   second list of things under way. The upstream's end is taken out of its connection after the
//!   101, so that nothing a client sends can reach an upstream that has not agreed.
//! * **Clients' waits have no timers** ([`server::watch`]): connections flip flags, and a sweeper
//!   looks at all of them a few times a second.
//! * **Names are resolved by our own resolver** ([`upstream::resolve`]), since a static binary has
//!   no system library to ask.
//! * **Spans are written by hand** ([`telemetry::traces`]): the OpenTelemetry SDK's batch thread has no
//!   reactor for our client, its exporter sleeps on the thread that waits for a retry, and its spans are trees of
//!   values. A span here is a growing buffer in OTLP's own encoding, sent by the same connections as requests, and
//!   the official types read it back in the tests.
//! * **A kept answer's key is all that goes upstream** ([`cache::Key`]), but for what differs with every
//!   call: a field that is no part of the key cannot shape an answer for others, and an API key in a
//!   field that nobody thought of divides accounts as `Authorization` does.
//! * **What replicas keep together is sealed, and told stale by marks** ([`fleet::Seal`], [`fleet::Changes`]): the
//!   key that opens an answer comes from the request, credential included, and is nowhere in the store; and an answer
//!   there counts only as long as the marks of what it shows are those of before it was asked for, so that no fetch
//!   that a change has overtaken is ever taken for new, whichever replica it was.
//! * **The rate limiter's memory is bounded and never kind to an attacker** ([`policy::cells`]): a
//!   newcomer to a full set starts where the one it displaces stood.

pub mod clock;

pub mod config;

pub mod routes;

pub mod profile;

pub mod policy;

pub mod stub;

pub mod upstream;

pub mod telemetry;

pub mod credential;

pub mod webhook;

pub mod herald;

pub mod guard;

pub mod fleet;

pub mod cache;

pub mod live;

pub mod proxy;

pub mod server;

pub mod reload;

pub mod admin;

pub mod cli;
