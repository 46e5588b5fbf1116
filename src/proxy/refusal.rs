//! Our own answers: the one place that chooses a status of ours.
//!
//! A refusal says why, in words that the developer who finds them in a stack trace can act on, and
//! in the dialect that the vendor's SDK turns into its usual error. It never says anything secret:
//! no credential, no query, no body of the request.

use crate::clock::Duration;
use crate::live::Standing;
use crate::profile::Dialect;
use crate::upstream::error::UpstreamError;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// RFC 9209.
pub static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why we answer ourselves. The label is public: metrics, logs and bodies carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NoRoute,
    BadRequest,
    TooLarge,
    ConnectMethod,
    BadSignature,
    Replayed,
    StubDisabled,
    RateLimited,
    CallerDenied,
    CredentialDead,
    StoreClosed,
    CredentialUnavailable,
    OutcomeUnknown,
    IdempotencyConflict,
    CircuitOpen,
    UpstreamBusy,
    ConnectFailed,
    TlsFailed,
    UpstreamReset,
    UpstreamError,
    BadUpgrade,
    ConnectTimeout,
    UpstreamTimeout,
    RequestTimeout,
    NotKept,
    Draining,
    Internal,
}

/// What never changes about a reason: its label, status, RFC 9209 error, and Twilio-dialect code.
struct Fixed(Reason, &'static str, u16, &'static str, u32);

#[rustfmt::skip]
const TABLE: &[Fixed] = &[
    Fixed(Reason::NoRoute, "no_route", 404, "destination_not_found", 40_401),
    Fixed(Reason::BadRequest, "bad_request", 400, "http_request_error", 40_001),
    Fixed(Reason::TooLarge, "too_large", 413, "http_request_error", 41_301),
    Fixed(Reason::ConnectMethod, "connect_method", 405, "http_request_denied", 40_501),
    Fixed(Reason::BadSignature, "bad_signature", 403, "http_request_denied", 40_302),
    Fixed(Reason::Replayed, "replayed", 403, "http_request_denied", 40_304),
    Fixed(Reason::StubDisabled, "stub_disabled", 403, "http_request_denied", 40_301),
    Fixed(Reason::CallerDenied, "caller_denied", 403, "http_request_denied", 40_303),
    Fixed(Reason::CredentialDead, "credential_dead", 502, "proxy_configuration_error", 50_205),
    Fixed(Reason::CredentialUnavailable, "credential_unavailable", 503, "destination_unavailable", 50_306),
    Fixed(Reason::RateLimited, "rate_limited", 429, "http_request_denied", 42_901),
    Fixed(Reason::StoreClosed, "store_closed", 503, "destination_unavailable", 50_304),
    Fixed(Reason::OutcomeUnknown, "outcome_unknown", 409, "http_request_denied", 40_901),
    Fixed(Reason::IdempotencyConflict, "idempotency_conflict", 422, "http_request_denied", 42_201),
    Fixed(Reason::CircuitOpen, "circuit_open", 503, "destination_unavailable", 50_301),
    Fixed(Reason::UpstreamBusy, "upstream_busy", 503, "connection_limit_reached", 50_303),
    Fixed(Reason::ConnectFailed, "connect_failed", 502, "connection_refused", 50_201),
    Fixed(Reason::TlsFailed, "tls_failed", 502, "tls_protocol_error", 50_202),
    Fixed(Reason::UpstreamReset, "upstream_reset", 502, "connection_terminated", 50_203),
    // RFC 9209 has no error for it: what came is given as received-status.
    Fixed(Reason::UpstreamError, "upstream_error", 502, "", 50_206),
    Fixed(Reason::BadUpgrade, "bad_upgrade", 502, "http_upgrade_failed", 50_204),
    Fixed(Reason::ConnectTimeout, "connect_timeout", 504, "connection_timeout", 50_401),
    Fixed(Reason::UpstreamTimeout, "upstream_timeout", 504, "http_response_timeout", 50_402),
    Fixed(Reason::RequestTimeout, "request_timeout", 408, "http_request_error", 40_801),
    Fixed(Reason::NotKept, "not_cached", 504, "http_request_denied", 50_403),
    Fixed(Reason::Draining, "draining", 503, "destination_unavailable", 50_302),
    Fixed(Reason::Internal, "internal", 500, "proxy_internal_error", 50_001),
];

impl Reason {
    fn fixed(self) -> &'static Fixed {
        const UNKNOWN: Fixed = Fixed(
            Reason::Internal,
            "internal",
            500,
            "proxy_internal_error",
            50_001,
        );
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&UNKNOWN)
    }

    /// The public name.
    pub fn label(self) -> &'static str {
        self.fixed().1
    }

    fn status(self) -> StatusCode {
        StatusCode::from_u16(self.fixed().2).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// One answer of ours.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One sentence: what was decided, by which rule, and what changes it.
    pub detail: String,
    /// How long to wait, where waiting helps.
    pub retry_after: Option<Duration>,
    /// Whether the upstream may have seen the request.
    pub contacted: bool,
    /// Whether it may have acted on it: the attempt was sent and its outcome is not known.
    pub unknown: bool,
    /// Whether a part of the request was left unread, so that its connection cannot go on.
    pub unread: bool,
    /// How the circuit stands that refuses, and what led to it.
    pub circuit: Option<Box<Standing>>,
    /// What the upstream answered, where somebody else's answer takes the place of its own.
    received: Option<StatusCode>,
    status: Option<StatusCode>,
    error: Option<&'static str>,
}

/// The methods that are forwarded everywhere.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Refusal {
    /// A refusal before any upstream was involved.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Refusal {
            reason,
            detail,
            retry_after: None,
            contacted: false,
            unknown: false,
            unread: false,
            circuit: None,
            received: None,
            status: None,
            error: None,
        }
    }

    /// What the upstream's own answer amounts to, where another takes its place.
    pub fn answered(status: StatusCode) -> Self {
        let detail = format!("it answered {}", status.as_u16());
        let mut refusal = Refusal::new(Reason::UpstreamError, detail);
        refusal.received = Some(status);
        refusal
    }

    /// With a time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// With one of the other statuses that its reason can have.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// What the client is told of a failed attempt. `name` is the upstream's.
    pub fn from_upstream(name: &str, error: &UpstreamError, contacted: bool) -> Self {
        let (reason, token) = read(error);
        let advice = match reason {
            Reason::UpstreamTimeout if error.is_callers_deadline() => "",
            Reason::UpstreamTimeout => "; timeouts in the configuration set how long to wait",
            Reason::ConnectTimeout => {
                "; timeouts.connect in the configuration sets how long to wait"
            }
            _ => "",
        };
        let seen = if contacted {
            "it may have seen the request"
        } else {
            "it saw nothing of the request"
        };
        let mut refusal =
            Refusal::new(reason, format!("upstream {name}: {error} ({seen}){advice}"));
        refusal.error = token;
        refusal.contacted = contacted;
        refusal.unknown = contacted;
        refusal
    }

    /// The status to answer with.
    pub fn code(&self) -> StatusCode {
        self.status.unwrap_or(self.reason.status())
    }

    /// Vapi's SDK repeats a 409: there an unknown outcome is a 424, which it does not.
    pub fn code_in(&self, dialect: Dialect) -> StatusCode {
        match (self.reason, dialect) {
            (Reason::OutcomeUnknown, Dialect::Vapi) => StatusCode::FAILED_DEPENDENCY,
            _ => self.code(),
        }
    }

    /// The `Proxy-Status` field (RFC 9209); `next_hop` is who answered instead.
    pub fn proxy_status(&self, next_hop: Option<&str>) -> Option<HeaderValue> {
        let Fixed(_, label, _, error, _) = self.reason.fixed();
        let what = match self.received {
            Some(status) => format!("received-status={}", status.as_u16()),
            None => format!("error={}", self.error.unwrap_or(error)),
        };
        let next = next_hop.map(|name| format!("; next-hop=\"{name}\""));
        let next = next.unwrap_or_default();
        let status = format!("trunkline; {what}{next}; details=\"{label}\"");
        HeaderValue::from_str(&status).ok()
    }

    /// Header fields and body. `upstream` is the route's.
    pub fn render(
        &self,
        dialect: Dialect,
        upstream: Option<&str>,
        id: &HeaderValue,
    ) -> (HeaderMap, Vec<u8>) {
        let mut fields = HeaderMap::with_capacity(8);
        let media = match dialect {
            Dialect::Generic => "application/problem+json",
            _ => "application/json",
        };
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(status) = self.proxy_status(None) {
            fields.insert(PROXY_STATUS.clone(), status);
        }
        if self.reason == Reason::ConnectMethod {
            // RFC 9110 15.5.6: what would be forwarded, though only a route knows which of them it takes.
            fields.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        }
        if let Some(seconds) = self.retry_after_field(dialect) {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let body = self.body(dialect, upstream, id.to_str().unwrap_or_default());
        (fields, body.to_string().into_bytes())
    }

    /// Vapi's SDKs would sleep an open circuit's Retry-After twice over: there only the body says it.
    fn retry_after_field(&self, dialect: Dialect) -> Option<u64> {
        let spare = dialect == Dialect::Vapi && self.reason == Reason::CircuitOpen;
        self.retry_after.filter(|_| !spare).map(whole_seconds)
    }

    fn body(&self, dialect: Dialect, upstream: Option<&str>, id: &str) -> Value {
        let Fixed(_, label, _, _, code) = self.reason.fixed();
        let status = self.code_in(dialect);
        let title = status.canonical_reason().unwrap_or("Error");
        let kind = format!("urn:trunkline:problem:{label}");
        let mut facts = json!({
            "type": kind,
            "status": status.as_u16(),
            "detail": self.detail,
            "reason": label,
            "upstream": upstream,
            "correlation_id": id,
            "retry_after_seconds": self.retry_after.map(whole_seconds),
            "upstream_contacted": self.contacted,
        });
        if let (Some(circuit), Value::Object(facts)) = (&self.circuit, &mut facts) {
            facts.insert("circuit".to_owned(), circuit.facts());
        }
        let with = |more: Value| joined(more, &facts);
        match dialect {
            Dialect::Generic => with(json!({"type": kind, "title": title})),
            Dialect::Vapi => with(json!({
                "statusCode": status.as_u16(), "message": self.detail, "error": title, "title": title,
            })),
            Dialect::Twilio => json!({
                "code": code, "message": self.detail, "more_info": kind,
                "status": status.as_u16(), "details": facts,
            }),
            Dialect::Google => {
                let item = json!({"domain": "trunkline", "reason": label, "message": self.detail});
                json!({"error": with(json!({
                    "code": status.as_u16(), "message": self.detail, "errors": [item],
                }))})
            }
            Dialect::Microsoft => {
                json!({"error": with(json!({"code": label, "message": self.detail}))})
            }
        }
    }
}

/// The members of `first`, then those of `second` that it lacks.
fn joined(mut first: Value, second: &Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        for (name, value) in second {
            first.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    first
}

/// Whole seconds, rounded up, at least 1 (RFC 9110 10.2.3).
fn whole_seconds(wait: Duration) -> u64 {
    let begun = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(begun).max(1)
}

/// The reason and RFC 9209 error of an upstream's failure.
fn read(error: &UpstreamError) -> (Reason, Option<&'static str>) {
    match error {
        UpstreamError::Dns { .. } => (Reason::ConnectFailed, Some("dns_error")),
        UpstreamError::Refused { .. } => (Reason::ConnectFailed, None),
        UpstreamError::Unreachable { .. } => {
            (Reason::ConnectFailed, Some("destination_ip_unroutable"))
        }
        UpstreamError::ConnectTimeout { .. } => (Reason::ConnectTimeout, None),
        UpstreamError::Certificate { .. } => (Reason::TlsFailed, Some("tls_certificate_error")),
        UpstreamError::Tls { .. } => (Reason::TlsFailed, None),
        UpstreamError::Reset { .. } => (Reason::UpstreamReset, None),
        UpstreamError::Malformed { .. } => (Reason::UpstreamReset, Some("http_protocol_error")),
        UpstreamError::FirstByteTimeout { .. }
        | UpstreamError::TotalTimeout { .. }
        | UpstreamError::IdleTimeout { .. } => (Reason::UpstreamTimeout, None),
        UpstreamError::BadUpgrade => (Reason::BadUpgrade, None),
        UpstreamError::ClientBody { .. } => (Reason::RequestTimeout, None),
        UpstreamError::BrokenBody => (Reason::BadRequest, None),
    }
}

/// The label under which a failure stands in the log, when the head of the answer was already sent.
pub fn failure_label(error: &UpstreamError) -> &'static str {
    read(error).0.label()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn render(dialect: Dialect) -> (HeaderMap, Value) {
        let refusal = Refusal::new(Reason::CircuitOpen, "the circuit is open")
            .retry_after(Duration::from_millis(3_200));
        let id = HeaderValue::from_static("id-1");
        let (fields, body) = refusal.render(dialect, Some("twilio"), &id);
        (fields, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn the_generic_dialect_is_a_problem_document() {
        let (fields, body) = render(Dialect::Generic);
        assert_eq!(fields[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(fields[header::RETRY_AFTER], "4");
        assert_eq!(
            fields[&PROXY_STATUS],
            "trunkline; error=destination_unavailable; details=\"circuit_open\""
        );
        assert_eq!(body["type"], "urn:trunkline:problem:circuit_open");
        assert_eq!(body["title"], "Service Unavailable");
        assert_eq!(body["status"], 503);
        assert_eq!(body["upstream"], "twilio");
        assert_eq!(body["correlation_id"], "id-1");
        assert_eq!(body["retry_after_seconds"], 4);
        assert_eq!(body["upstream_contacted"], false);
    }

    #[test]
    fn twilios_dialect_has_an_integer_code_and_no_title() {
        let (_, body) = render(Dialect::Twilio);
        assert!(body["code"].is_u64() && body.get("title").is_none());
        assert_eq!(body["message"], "the circuit is open");
        assert_eq!(body["details"]["reason"], "circuit_open");
    }

    #[test]
    fn vapis_sdk_is_not_told_to_sleep_through_an_open_circuit() {
        let (fields, body) = render(Dialect::Vapi);
        assert!(!fields.contains_key(header::RETRY_AFTER));
        assert_eq!(body["retry_after_seconds"], 4);
        assert_eq!(body["statusCode"], 503);
        assert_eq!(body["error"], "Service Unavailable");
    }

    #[test]
    fn google_and_graph_find_code_and_message_below_error() {
        assert_eq!(render(Dialect::Google).1["error"]["code"], 503);
        assert_eq!(
            render(Dialect::Microsoft).1["error"]["code"],
            "circuit_open"
        );
    }
}
