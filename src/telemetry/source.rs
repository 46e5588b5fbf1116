//! Two labels whose values are the program's own: who answered a request, and its method.

use http::Method;

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The upstream.
    Upstream,
    /// An answer that was kept.
    Cache,
    /// A stub.
    Stub,
    /// The proxy itself: a refusal.
    Proxy,
}

impl Source {
    /// The value of the `source` label.
    pub fn label(self) -> &'static str {
        match self {
            Source::Upstream => "upstream",
            Source::Cache => "cache",
            Source::Stub => "stub",
            Source::Proxy => "proxy",
        }
    }
}

/// The value of the `method` label: unknown methods are `OTHER`.
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "OTHER",
    }
}
