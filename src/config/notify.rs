//! The shape of `notify`: who is told when a circuit changes.
//!
//! Same rules as the rest of the schema: every key may be absent and no file is opened here.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shape::OneOrMany;
use super::units::{Dur, Secret, Text};

/// The receiver of a signed webhook for every change of a circuit.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Where it is, such as `https://hooks.example.com/trunkline`; empty is off. This or `url_file`.
    pub url: Option<Secret>,
    /// File that holds the URL.
    pub url_file: Option<Text>,
    /// Files with a secret a line, to sign with; read again when they change.
    pub secret_file: OneOrMany<Text>,
    /// Secrets to sign with; two while one takes the place of the other.
    pub secrets: Vec<Secret>,
    /// PEM file with the authorities to trust. Default: the machine's trust store.
    pub ca_file: Option<Text>,
    /// How long one try may take. Default `5s`.
    pub timeout: Option<Dur>,
    /// How long after a change it is still told. Default `5m`.
    pub give_up_after: Option<Dur>,
    /// What this process is called in messages. Default: the machine's name.
    pub instance: Option<Text>,
}
