//! What went wrong on the way to an upstream, and whose fault it was.
//!
//! Says what happened and how far the request got. Whether to repeat it is the retry policy's
//! decision, which answer it becomes is the refusal's: nothing here chooses a status.

use crate::upstream::request_body::RequestBody;
use http::Request;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Why an attempt brought no answer, or only part of one.
#[derive(Debug)]
pub enum UpstreamError {
    /// The name did not resolve.
    Dns { host: String, why: String },
    /// The address refused the connection.
    Refused { address: SocketAddr },
    /// The address cannot be reached from here.
    Unreachable { address: SocketAddr, why: String },
    /// No connection within the `connect` time-out: names, TCP and TLS together.
    ConnectTimeout { after: Duration },
    /// The certificate is not one to trust for this name.
    Certificate { why: String },
    /// The TLS handshake failed for another reason.
    Tls { why: String },
    /// The connection ended or broke before the answer was complete.
    Reset { why: String },
    /// No response head within the `first_byte` time-out.
    FirstByteTimeout { after: Duration },
    /// No response head in the time that all attempts had together.
    TotalTimeout { after: Duration, set_by: SetBy },
    /// The body stood still for longer than the `idle` time-out.
    IdleTimeout { after: Duration },
    /// What came back is not one unambiguous HTTP response.
    Malformed { why: String },
    /// A 101 to a request that asked for no upgrade, or for another one.
    BadUpgrade,
    /// The client's own body stood still or crawled: the upstream is not to blame.
    ClientBody { why: String },
    /// The client's own body broke off, or is none: the upstream is not to blame.
    BrokenBody,
}

/// Who said how long all attempts may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// The `total` time-out.
    Configuration,
    /// The caller, of its own request.
    Caller,
}

/// Whose fault an error was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The upstream, or the way to it.
    Upstream,
    /// The client.
    Client,
}

impl UpstreamError {
    /// Whether another attempt is worth its time: not after a certificate that is not to be
    /// trusted, an answer that breaks the protocol, or a wait that was already as long as allowed.
    pub fn may_pass(&self) -> bool {
        !matches!(
            self,
            UpstreamError::Certificate { .. }
                | UpstreamError::Malformed { .. }
                | UpstreamError::BadUpgrade
                | UpstreamError::ClientBody { .. }
                | UpstreamError::BrokenBody
                | UpstreamError::ConnectTimeout { .. }
                | UpstreamError::FirstByteTimeout { .. }
                | UpstreamError::TotalTimeout { .. }
        )
    }

    /// Whose fault this was: only the upstream's errors count against it.
    pub fn blame(&self) -> Blame {
        match self {
            UpstreamError::ClientBody { .. } | UpstreamError::BrokenBody => Blame::Client,
            error if error.is_callers_deadline() => Blame::Client,
            _ => Blame::Upstream,
        }
    }

    /// Whether it was the caller who would not wait any longer.
    pub fn is_callers_deadline(&self) -> bool {
        let UpstreamError::TotalTimeout { set_by, .. } = self else {
            return false;
        };
        *set_by == SetBy::Caller
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamError::Dns { host, why } => write!(f, "the name {host} did not resolve: {why}"),
            UpstreamError::Refused { address } => write!(f, "{address} refused the connection"),
            UpstreamError::Unreachable { address, why } => {
                write!(f, "{address} cannot be reached: {why}")
            }
            UpstreamError::ConnectTimeout { after } => {
                write!(f, "no connection within {after:?}")
            }
            UpstreamError::Certificate { why } => write!(f, "its certificate was refused: {why}"),
            UpstreamError::Tls { why } => write!(f, "the TLS handshake failed: {why}"),
            UpstreamError::Reset { why } => write!(f, "the connection was lost: {why}"),
            UpstreamError::FirstByteTimeout { after } => write!(f, "no answer within {after:?}"),
            UpstreamError::TotalTimeout { after, set_by } => match set_by {
                SetBy::Configuration => write!(f, "no answer within {after:?} over all attempts"),
                SetBy::Caller => write!(f, "no answer within the caller's own {after:?}"),
            },
            UpstreamError::IdleTimeout { after } => write!(f, "the body stood still for {after:?}"),
            UpstreamError::Malformed { why } => write!(f, "its answer was malformed: {why}"),
            UpstreamError::BadUpgrade => {
                f.write_str("it switched protocols in a way that was not asked for")
            }
            UpstreamError::ClientBody { why } => write!(f, "the client's body failed: {why}"),
            UpstreamError::BrokenBody => {
                f.write_str("the client's body broke off, or its chunks or trailers are malformed")
            }
        }
    }
}

impl std::error::Error for UpstreamError {}

/// A failed attempt: what went wrong and whether the upstream may have seen any of the request.
#[derive(Debug)]
pub struct SendError {
    /// What went wrong.
    pub error: UpstreamError,
    /// Whether any byte of the request was handed to the network.
    pub sent: bool,
    /// Whether a connection kept from earlier turned out to be closed: no byte of an answer came, and
    /// the upstream is not to blame.
    pub stale: bool,
    /// The request itself, where it never left us.
    pub request: Option<Box<Request<RequestBody>>>,
}

impl SendError {
    /// An error from before any byte of the request left.
    pub fn unsent(error: UpstreamError, request: Option<Request<RequestBody>>) -> Self {
        SendError {
            error,
            sent: false,
            stale: false,
            request: request.map(Box::new),
        }
    }

    /// An error after which the request is gone; `sent` if any byte of it left.
    pub fn gone(error: UpstreamError, sent: bool) -> Self {
        SendError {
            error,
            sent,
            stale: false,
            request: None,
        }
    }
}
