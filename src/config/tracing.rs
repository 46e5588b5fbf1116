//! The shape of `tracing`.
//!
//! Same rules as the rest of the schema: every key may be absent and nothing is resolved here. The
//! OTEL_* variables, which win over it, are read where it is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Ratio, Text};

/// Where traces go (OTLP over HTTP). The OTEL_* variables win over it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// The collector, such as `http://127.0.0.1:4318`; `/v1/traces` is added. Off unless given.
    pub otlp_endpoint: Option<Text>,
    /// The share of requests that is traced where the caller's trace does not decide. Default `100%`.
    pub sample: Option<Ratio>,
    /// The name that traces are shown under. Default `trunkline`.
    pub service_name: Option<Text>,
}
