//! The shape of the two places in `proxy.yaml` that are about kept answers: a route's, and the bound
//! over all.
//!
//! Same rules as the rest of the schema: every key may be absent, and whether keys agree with each other
//! is decided when the file is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shape::OneOrMany;
use super::units::{Dur, Flag, Size, Text};

/// Which answers of a route are kept and given again. Only `GET` is kept, and `HEAD` answered from it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long an answer is fresh, in place of what its `Cache-Control` says; never over `no-store`,
    /// `private`, `Set-Cookie` or `Vary: *`. Default: as the answer says.
    pub ttl: Option<Dur>,
    /// How long after that it is still given, while another is fetched. Default: as the answer says.
    pub stale_while_revalidate: Option<Dur>,
    /// How long after that it is still given when the upstream fails or its circuit is open. Default:
    /// as the answer says.
    pub stale_if_error: Option<Dur>,
    /// Bytes of all answers of the route. Default: `cache.max_bytes`.
    pub max_bytes: Option<Size>,
    /// Bytes of the largest body that is kept. Default `1MiB`.
    pub max_entry: Option<Size>,
    /// Whether clients share what was fetched with a credential of the proxy's. Default `false`.
    pub shared: Option<Flag>,
    /// Header fields of requests that make no difference to the answer, such as `User-Agent`.
    pub ignore: OneOrMany<Text>,
}

/// The bound over the kept answers of all routes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheBound {
    /// Bytes of all kept answers together. Default `64MiB`.
    pub max_bytes: Option<Size>,
}
