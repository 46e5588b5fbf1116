//! The shape of `proxy.yaml`: one Rust field for each key, in the file's own words.
//!
//! Every key may be absent, so that reading never stops at a missing one; what is mandatory, what the
//! default is and whether two keys agree is decided where these types are compiled into the runtime
//! ones. Field comments become the descriptions of `proxy.schema.json`, so they state units and
//! defaults. Nothing here may resolve names, open files or hold a runtime type.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shape::{Named, OneOrMany};
use super::units::{Address, Count, Dur, Flag, Identify, Network, Secret, Size, Text};

pub use super::cache::{Cache, CacheBound};
pub use super::credential::{BasicCredential, Credential, FieldCredential, UsedCredential};
pub use super::notify::Notify;
pub use super::oauth2::{GrantKind, OAuth2, Provider, TokenTimeouts};
pub use super::profile::{
    AnswerCase, AnswerOutcome, Dialect, OwnProfile, Processed, ProfileName, Statuses,
};
pub use super::stub::{Fallback, Fault, Per, Stub, StubAnswer};
pub use super::tracing::Tracing;
pub use super::upstream::{
    Breaker, BreakerBackoff, Concurrency, Defaults, Protocol, Retry, RetryBackoff, Timeouts,
    Upstream, UpstreamTls,
};
pub use super::webhook::{
    HmacAlgorithm, HmacEncoding, Replay, ReplayBy, Verify, VerifyHmac, VerifyTwilio, VerifyVapi,
};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where this runs. Default `development`.
    pub environment: Option<Environment>,
    /// The addresses that accept requests. At least one.
    pub listen: Vec<Listen>,
    /// Metrics, health, status page and API.
    pub admin: Option<Admin>,
    /// A listener of its own for `/metrics`, `/livez` and `/readyz`. Off unless given.
    pub metrics: Option<Metrics>,
    /// How a caller is told from the next one.
    pub clients: Clients,
    /// The identifier that ties a request to its log lines.
    pub correlation: Correlation,
    /// Limits that routes refer to by name.
    pub rate_limits: Named<RateLimit>,
    /// Whether the canned answers stand in for their upstreams.
    pub stubs: Stubs,
    /// What upstreams and routes inherit unless they say otherwise.
    pub defaults: Defaults,
    /// What services mean by their answers that are none of the vendors that are known, by name.
    pub profiles: Named<OwnProfile>,
    /// The services behind the proxy, by name.
    pub upstreams: Named<Upstream>,
    /// Credentials that are added for the caller, by name.
    pub credentials: Named<Credential>,
    /// Breakers that routes of several upstreams share, by name.
    pub breakers: Named<Breaker>,
    /// What is done with a request: the first match wins, top to bottom.
    pub routes: Vec<Route>,
    /// The bound over the kept answers of all routes.
    pub cache: CacheBound,
    /// One line an exchange on standard output.
    pub access_log: AccessLog,
    /// Where traces go.
    pub tracing: Tracing,
    /// How a stopping process treats the requests in flight.
    pub drain: Drain,
    /// Worker threads, 1 to 1024. Default: one per core.
    pub threads: Option<Count<1, 1024>>,
    /// Bytes of request bodies held whole at once, over all connections: those of creates, and of requests
    /// that another upstream may be asked with. Above it a request is 503. Default `64MiB`.
    pub held_bodies: Option<Size>,
    /// File that holds the records of creates across a crash. Off unless given.
    pub state_file: Option<Text>,
    /// The store that replicas share. Off unless given.
    pub redis: Option<Redis>,
    /// Who is told of every change of a circuit. Off unless given.
    pub notify: Option<Notify>,
}

/// The Redis or Valkey through which several replicas act as one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://` or, over TLS, `rediss://`, then `[user][:password]@host[:port][/database]`; empty is off. This or `url_file`.
    pub url: Option<Secret>,
    /// File that holds the URL.
    pub url_file: Option<Text>,
    /// File that holds the password, where the URL has none.
    pub password_file: Option<Text>,
    /// PEM file with the authorities to trust. Default: the machine's trust store.
    pub ca_file: Option<Text>,
    /// The longest that a request waits for one answer. Default `25ms`.
    pub timeout: Option<Dur>,
    /// Whether the URL leads to a cluster. Default `false`.
    pub cluster: Option<Flag>,
    /// What every key begins with; replicas with the same one share. Default `trunkline`.
    pub prefix: Option<Text>,
}

/// The three places a process may run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum Environment {
    Development,
    Staging,
    Production,
}

/// One address that accepts requests.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// The name that routes bind to by `match: { listener: ... }`.
    pub name: Option<Text>,
    /// IP address and port, such as `127.0.0.1:8080`.
    pub address: Option<Address>,
    /// Where clients know this listener where something in front of it ends TLS or takes away a path, such as
    /// `https://sidecar.internal`: addresses in answers become this one's.
    pub public_url: Option<Text>,
    /// How long a client may take.
    pub timeouts: ListenTimeouts,
    /// How much a client may send.
    pub limits: ListenLimits,
    /// Serve TLS on this address.
    pub tls: Option<ListenTls>,
    /// Expect the PROXY protocol (versions 1 and 2) before the first byte. Default `false`.
    pub proxy_protocol: Option<Flag>,
}

/// How long a client may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenTimeouts {
    /// From accepting a connection to its first byte. Default `10s`.
    pub first_byte: Option<Dur>,
    /// From the first byte of a request to the end of its head. Default `10s`.
    pub head: Option<Dur>,
    /// Between two pieces of a request body. Default `30s`.
    pub body_idle: Option<Dur>,
    /// Between two requests on a connection. Default `60s`.
    pub keep_alive: Option<Dur>,
    /// For a client that does not read its answer. Default `30s`.
    pub write_stall: Option<Dur>,
}

/// How much a client may send.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenLimits {
    /// Connections open at once. Default 10000.
    pub connections: Option<Count>,
    /// Bytes of a request head; above it the answer is 431. Default `64KiB`.
    pub head: Option<Size>,
    /// Header fields of a request; above it the answer is 431. Default 100.
    pub fields: Option<Count>,
    /// Bytes of a request target; above it the answer is 414. Default `8KiB`.
    pub target: Option<Size>,
    /// Streams open at once on an HTTP/2 connection. Default 100.
    pub h2_streams: Option<Count>,
    /// Bytes a second that a request body brings at least, on average once `body_idle` has passed; 0
    /// is any. Default `500B`.
    pub body_rate: Option<Size>,
    /// A connection that is older is asked to end with its next answer, an HTTP/2 one at once; the age is cut by up to
    /// a tenth, so that they do not all go together. What is under way is finished. Off unless given.
    pub max_connection_age: Option<Dur>,
}

/// The certificate of a listener. Files are read again when they change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenTls {
    /// PEM file with the certificate chain.
    pub certificate_file: Option<Text>,
    /// PEM file with the private key.
    pub key_file: Option<Text>,
    /// PEM file with the authorities of client certificates; with it, clients must present one.
    pub client_ca_file: Option<Text>,
}

/// The operator's listener.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// IP address and port. Default `127.0.0.1:9900`.
    pub address: Option<Address>,
    /// File that holds the token that writes need. Mandatory off loopback unless `read_only`.
    pub token_file: Option<Text>,
    /// Refuse every write. Default `false`.
    pub read_only: Option<Flag>,
}

/// A listener for Prometheus and the kubelet alone.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// IP address and port, such as `0.0.0.0:9464`.
    pub address: Option<Address>,
}

/// How a caller is told from the next one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Signs of identity, of which the first that is present counts. Default `[ip]`.
    pub identify_by: Option<Vec<Identify>>,
    /// Networks whose `header:` identities are believed; through a trusted proxy, its client must be in one too.
    /// Default: loopback.
    pub identity_from: Option<Vec<Network>>,
    /// Networks whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// Leading bits of an IPv6 address that make one client, 1 to 128. Default 64.
    pub ipv6_prefix: Option<Count<1, 128>>,
}

/// The identifier that ties a request to its log lines.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// Header that carries it, upstream and on every answer. Default `X-Correlation-ID`.
    pub header: Option<Text>,
    /// Whose identifiers are taken over. Default `anyone`.
    pub accept_from: Option<AcceptFrom>,
}

/// Whose correlation identifiers are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum AcceptFrom {
    Anyone,
    TrustedProxies,
    Nobody,
}

/// `requests` per `per`, counted for each client.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Requests allowed in each `per`, at least 1. Mandatory.
    pub requests: Option<Count>,
    /// The time that `requests` refers to. Default `1m`.
    pub per: Option<Dur>,
    /// What has a bucket of its own. Default `client`.
    pub by: Option<LimitBy>,
    /// Requests that may come at once. Default: `requests`.
    pub burst: Option<Count>,
    /// Refuse, or only count. Default `enforce`.
    pub mode: Option<Mode>,
    /// Buckets held in memory. Default 100000.
    pub max_clients: Option<Count>,
    /// What holds while the shared store is away. Default `local`.
    pub on_store_loss: Option<OnStoreLoss>,
}

/// What has a bucket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum LimitBy {
    Client,
    Upstream,
    Route,
}

/// What a limit does while the shared store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum OnStoreLoss {
    Local,
    Open,
    Closed,
}

/// Whether a policy acts or only counts what it would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum Mode {
    Enforce,
    Observe,
}

/// Whether the canned answers stand in for their upstreams.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stubs {
    /// Give canned answers. Default `true`.
    pub enabled: Option<Flag>,
    /// Environments in which a start with stubs enabled is refused. Default `[production]`.
    pub refuse_in: Option<Vec<Environment>>,
}

/// What is done with the requests that match.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The name in metrics, logs and `X-Stub`. Mandatory and unique.
    pub name: Option<Text>,
    /// Which requests are meant.
    pub r#match: Match,
    /// The upstream that answers. A route has this, `stub`, or both.
    pub upstream: Option<Text>,
    /// A credential of `credentials` that is added for the caller. Default: that of the upstream.
    pub credential: Option<UsedCredential>,
    /// Networks from which callers are let through. Default: those of the upstream, else all.
    pub allow_from: Option<Vec<Network>>,
    /// File that holds the token that callers must send. Default: that of the upstream.
    pub caller_token_file: Option<Text>,
    /// The path sent upstream, with `{parameters}` of the matched one. Default: as it came.
    pub rewrite: Option<Text>,
    /// By whose signature its requests are known; others are refused.
    pub verify: Option<Verify>,
    /// Turn the vendor's addresses in answers into ours. In place of the upstream's.
    pub rewrite_answers: Option<Flag>,
    /// Names of the rate limits that apply.
    pub rate_limit: Option<OneOrMany<Text>>,
    /// A breaker of `breakers` in place of the upstream's own.
    pub breaker: Option<Text>,
    /// The profile in whose dialect our answers are. Default: that of the upstream.
    pub profile: Option<ProfileName>,
    /// Whether these requests create something. Default: what the profile says.
    pub creates: Option<Flag>,
    /// In place of the upstream's.
    pub timeouts: Timeouts,
    /// In place of the upstream's.
    pub retry: Retry,
    /// In place of the upstream's.
    pub concurrency: Concurrency,
    /// In place of the upstream's.
    pub duplicate_window: Option<Dur>,
    /// What answers while the circuit is open or when attempts are spent, in this order.
    pub fallback: Vec<Fallback>,
    /// The canned answer.
    pub stub: Option<Stub>,
    /// Answers that are kept and given again. Off unless given.
    pub cache: Option<Cache>,
}

/// Which requests a route is for; every part given must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The name of a listener. Default: any.
    pub listener: Option<Text>,
    /// A host name, or `{name}.example.com`. Default: any.
    pub host: Option<Text>,
    /// A path with `{segment}` and a last `{*rest}`. Default: any.
    pub path: Option<Text>,
    /// HTTP methods. Default: any.
    pub methods: Option<Vec<Text>>,
    /// Header fields and the exact value of each.
    pub headers: Named<Text>,
    /// Query parameters and the exact value of each.
    pub query: Named<Text>,
}

/// One line an exchange on standard output.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// How a line looks. Default: `text` on a terminal, else `json`.
    pub format: Option<LogFormat>,
}

/// How an access log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum LogFormat {
    Json,
    Text,
    Off,
}

/// How a stopping process treats the requests in flight.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// The longest that they may take. Default `25s`.
    pub grace: Option<Dur>,
    /// How long nothing new must come before accepting ends. Default `1s`.
    pub quiet: Option<Dur>,
}
