//! The shape of an upstream and of everything it shares with `defaults` and the routes.
//!
//! Same rules as the rest of the schema: every key may be absent, nothing is resolved here, and which
//! of three layers wins (route, upstream, `defaults`) is decided when the file is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::credential::UsedCredential;
use super::profile::ProfileName;
use super::schema::Mode;
use super::shape::Named;
use super::units::{Count, Dur, Factor, Flag, Network, Ratio, Size, Text};

/// What upstreams and routes inherit unless they say otherwise.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// How long an upstream may take.
    pub timeouts: Timeouts,
    /// When calls to an upstream stop.
    pub breaker: Breaker,
    /// What is tried again.
    pub retry: Retry,
    /// How many requests an upstream gets at once.
    pub concurrency: Concurrency,
    /// How long a create of unknown outcome is not repeated; `0s` switches the guard off. Default `60s`.
    pub duplicate_window: Option<Dur>,
    /// Send `X-Forwarded-*` to upstreams. Default `false`.
    pub forwarded: Option<Flag>,
}

/// A service behind the proxy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Scheme and authority, such as `https://api.vapi.ai`; the host may hold `{parameters}`. Mandatory.
    pub url: Option<Text>,
    /// What its answers mean: a vendor's name or one of `profiles`. Default `generic`.
    pub profile: Option<ProfileName>,
    /// The HTTP version spoken to it. Default: what ALPN chooses.
    pub protocol: Option<Protocol>,
    /// How its certificate is checked and ours is shown.
    pub tls: UpstreamTls,
    /// Send `X-Forwarded-*` to it. Default `false`.
    pub forwarded: Option<Flag>,
    /// Turn the vendor's addresses in answers into ours, where a route leads there. Default: `true` for
    /// vapi, twilio and microsoft.
    pub rewrite_answers: Option<Flag>,
    /// A credential of `credentials` that is added for the caller. Default: none.
    pub credential: Option<UsedCredential>,
    /// Networks from which callers are let through. Default: all.
    pub allow_from: Option<Vec<Network>>,
    /// File that holds the token that callers must send. Default: none is asked for.
    pub caller_token_file: Option<Text>,
    /// Send it the `Host` that the client named, in place of its own. Default `false`.
    pub preserve_host: Option<Flag>,
    /// The values that each parameter of the host may take.
    pub allow: Named<Vec<Text>>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// When calls to it stop.
    pub breaker: Breaker,
    /// What is tried again.
    pub retry: Retry,
    /// How many requests it gets at once.
    pub concurrency: Concurrency,
    /// How long a create of unknown outcome is not repeated; `0s` switches the guard off. Default `60s`.
    pub duplicate_window: Option<Dur>,
}

/// The HTTP version spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum Protocol {
    Http1,
    Http2,
}

/// How an upstream's certificate is checked and ours is shown.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// PEM file with the authorities to trust in place of the system's.
    pub ca_file: Option<Text>,
    /// PEM file with our certificate chain.
    pub client_certificate_file: Option<Text>,
    /// PEM file with our private key.
    pub client_key_file: Option<Text>,
    /// The name the certificate must carry. Default: the host of `url`.
    pub server_name: Option<Text>,
}

/// How long an upstream may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To a connection that is ready, TLS included. Default `3s`.
    pub connect: Option<Dur>,
    /// From the request sent to the head of the answer. Default `30s`.
    pub first_byte: Option<Dur>,
    /// Between two pieces of a body or tunnel. Default `60s`.
    pub idle: Option<Dur>,
    /// From arrival to the head of the answer, all attempts included. Default `5m`.
    pub total: Option<Dur>,
    /// Header by which a caller lowers `total` for its request, such as `X-Request-Timeout-Ms` (a name in
    /// `-Ms` holds milliseconds, `grpc-timeout` its own form, any other a duration). Off unless given.
    pub from_header: Option<Text>,
}

/// When calls to an upstream stop, and how they start again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Whether there is one at all. Default `true`.
    pub enabled: Option<Flag>,
    /// Consecutive failures that open it, at least 1. Default 3.
    pub failure_threshold: Option<Count>,
    /// How long it stays open before probes are let through. Default `30s`.
    pub recovery_timeout: Option<Dur>,
    /// Successful probes that close it, at least 1. Default 2.
    pub success_threshold: Option<Count>,
    /// Share of failures within `window` that opens it too. Off unless given.
    pub failure_rate: Option<Ratio>,
    /// Share of slow answers within `window` that opens it too. Off unless given.
    pub slow_rate: Option<Ratio>,
    /// From when on an answer is slow. Default `10s`.
    pub slow_after: Option<Dur>,
    /// The time that the shares look back on. Default `30s`.
    pub window: Option<Dur>,
    /// Calls within `window` below which the shares decide nothing. Default 20.
    pub minimum_calls: Option<Count>,
    /// How the time open grows from one re-opening to the next.
    pub backoff: BreakerBackoff,
    /// Requests let through at once while half-open, at least 1. Default 1.
    pub probes: Option<Count>,
    /// Refuse, or only show what would be refused. Default `enforce`.
    pub mode: Option<Mode>,
}

/// How the time open grows from one re-opening to the next.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerBackoff {
    /// By how much each re-opening lasts longer than the one before, at least 1. Default 2.
    pub factor: Option<Factor>,
    /// The longest it may last. Default `5m`.
    pub max: Option<Dur>,
    /// Share of a re-opening that is left to chance. Default `20%`.
    pub jitter: Option<Ratio>,
}

/// What is tried again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first included. Default 2 where any key of `retry` is given, else 1.
    pub attempts: Option<Count>,
    /// The wait before the next attempt.
    pub backoff: RetryBackoff,
    /// Retries as a share of recent requests, with a floor of 3 a second. Default `20%`.
    pub budget: Option<Ratio>,
    /// The largest request body that is kept for another attempt. Default `64KiB`.
    pub replay_body: Option<Size>,
}

/// The wait before the next attempt, drawn at random below a bound that doubles.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBackoff {
    /// The first bound. Default `100ms`.
    pub base: Option<Dur>,
    /// The last bound. Default `2s`.
    pub max: Option<Dur>,
}

/// How many requests an upstream gets at once.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    /// Requests in flight, at least 1. Default 256.
    pub limit: Option<Count>,
    /// Requests that may wait for a place. Default 256.
    pub queue: Option<Count<0>>,
    /// How long one may wait. Default `1s`.
    pub wait: Option<Dur>,
}
