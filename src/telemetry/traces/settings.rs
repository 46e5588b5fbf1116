//! Where traces go and as whom, checked and complete. Built when the configuration is compiled.
//!
//! The names are those of the OpenTelemetry specification's environment variables. The values of
//! header fields are credentials: they are marked so, and no `Debug` shows them.

use super::wire::{self, Value};
use crate::clock::Duration;
use crate::upstream::target::Endpoint;
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::sync::Arc;

/// What a collector's address ends in for traces.
const SIGNAL: &str = "/v1/traces";

/// Where traces go and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The collector.
    pub endpoint: Arc<Endpoint>,
    /// The path there.
    pub path: String,
    /// Fields that go with every delivery.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Trusted roots instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// How long one delivery may take.
    pub timeout: Duration,
    /// How long spans gather before they are delivered.
    pub gather: Duration,
    /// Spans that may wait.
    pub queue: usize,
    /// Who we are, in OpenTelemetry's words.
    pub resource: Vec<(String, String)>,
}

impl Settings {
    /// The collector's whole address.
    pub fn url(&self) -> String {
        let scheme = if self.endpoint.tls { "https" } else { "http" };
        let host = self.endpoint.host_field.to_str().unwrap_or_default();
        format!("{scheme}://{host}{}", self.path)
    }

    /// Who we are, as an encoded `Resource`.
    pub(super) fn resource(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let instance = uuid::Uuid::now_v7().to_string();
        let own = [
            ("service.instance.id", instance.as_str()),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "trunkline"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let given = |key: &str| self.resource.iter().any(|(other, _)| other == key);
        for (key, value) in own.into_iter().filter(|(key, _)| !given(key)) {
            wire::attribute(&mut out, 1, key, Value::Text(value));
        }
        for (key, value) in &self.resource {
            wire::attribute(&mut out, 1, key, Value::Text(value));
        }
        out
    }
}

/// The path of an address that is meant for all signals: the traces' own below it.
pub fn path_below(base: &str) -> String {
    match base.ends_with(SIGNAL) {
        true => base.to_owned(),
        false => format!("{base}{SIGNAL}"),
    }
}

/// `key=value,key=value` with percent-encoding in both, as in `OTEL_RESOURCE_ATTRIBUTES`.
///
/// # Errors
/// It is not such a list. The text is not repeated: it may hold a credential.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let entries = text.split(',').map(str::trim).filter(|e| !e.is_empty());
    let read = entries.zip(1..).map(|(entry, number)| {
        pair(entry).ok_or_else(|| format!("entry {number} is not key=value, percent-encoded"))
    });
    read.collect()
}

fn pair(entry: &str) -> Option<(String, String)> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text.trim()).decode_utf8();
        decoded.map(|text| text.into_owned()).ok()
    };
    let (key, value) = entry.split_once('=')?;
    let key = decoded(key).filter(|key| !key.is_empty())?;
    Some((key, decoded(value)?))
}

/// The same as header fields, marked as secret.
///
/// # Errors
/// It is not such a list, or a key or value cannot stand in a header.
pub fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    pairs(text)?
        .into_iter()
        .map(|(key, value)| {
            let name = HeaderName::try_from(key.as_str());
            let name = name.map_err(|_| "a key is no header name".to_owned())?;
            let value = HeaderValue::try_from(value);
            let mut value = value.map_err(|_| format!("the value of {name} is no header value"))?;
            value.set_sensitive(true);
            Ok((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lists_are_read_as_the_specification_writes_them() {
        let read = pairs("a=1, b=x%20y ,c=d=e").unwrap();
        let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, [("a", "1"), ("b", "x y"), ("c", "d=e")]);
        assert!(pairs("").unwrap().is_empty());
        assert_eq!(
            pairs("a=1,b").unwrap_err(),
            "entry 2 is not key=value, percent-encoded"
        );
        assert!(pairs("=1").is_err() && pairs("a=%ff").is_err());
    }

    #[test]
    fn a_header_s_value_is_never_shown() {
        let read = headers("authorization=Bearer%20canary").unwrap();
        assert_eq!(read.first().unwrap().1, "Bearer canary");
        assert!(!format!("{read:?}").contains("canary"));
        let wrong = headers("x=%0acanary").unwrap_err();
        assert!(!wrong.contains("canary"), "{wrong}");
    }

    #[test]
    fn an_address_for_all_signals_leads_to_the_traces() {
        assert_eq!(path_below(""), "/v1/traces");
        assert_eq!(path_below("/otlp"), "/otlp/v1/traces");
        assert_eq!(path_below("/v1/traces"), "/v1/traces");
    }
}
