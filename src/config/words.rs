//! The scalars of `proxy.yaml` that are not quantities: text, secrets, addresses, networks and signs
//! of identity.
//!
//! As with the quantities, whether one value makes sense by itself is decided here and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::scalar::{Raw, Scalar, ScalarVisitor, described, pattern, scalar};

scalar!(Text, Secret, Address, Network, Identify);

/// A string. Whole numbers and flags are taken as their text; a broken number is not, because
/// reading it has already lost its spelling (`1.10`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(String);

impl Text {
    /// The value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.to_owned())
    }
}

impl Scalar for Text {
    fn expected() -> Cow<'static, str> {
        "text (a number goes in quotes)".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Flag(flag) => Some(Text(flag.to_string())),
            Raw::Whole(number) => Some(Text(number.to_string())),
            Raw::Text(text) => Some(Text(text.to_owned())),
            Raw::Broken(_) => None,
        }
    }

    fn forms() -> Vec<Value> {
        vec![json!({ "type": ["string", "integer", "boolean"] })]
    }
}

/// Text that no log, error or `Debug` output may show; it is wiped from memory when dropped.
#[derive(Debug, Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl Scalar for Secret {
    fn expected() -> Cow<'static, str> {
        "text".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        Text::read(raw).map(|text| Secret(SecretString::from(text.0)))
    }

    fn forms() -> Vec<Value> {
        Text::forms()
    }
}

/// An IP address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(SocketAddr);

impl Address {
    /// The value.
    #[must_use]
    pub fn get(self) -> SocketAddr {
        self.0
    }
}

impl Scalar for Address {
    fn expected() -> Cow<'static, str> {
        "an IP address and port like 127.0.0.1:8080 or [::1]:8080".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Text(text) => text.trim().parse().ok().map(Address),
            Raw::Flag(_) | Raw::Whole(_) | Raw::Broken(_) => None,
        }
    }

    fn forms() -> Vec<Value> {
        vec![pattern(r"^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]+$")]
    }
}

/// A network in CIDR form; a single address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// The value, with the bits below the prefix at zero.
    #[must_use]
    pub fn get(self) -> IpNet {
        self.0
    }
}

impl Scalar for Network {
    fn expected() -> Cow<'static, str> {
        "a network like 10.0.0.0/8 or ::1".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let Raw::Text(text) = raw else { return None };
        let text = text.trim();
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.ok().map(|network: IpNet| Network(network.trunc()))
    }

    fn forms() -> Vec<Value> {
        vec![pattern("^[0-9a-fA-F:.]+(/[0-9]+)?$")]
    }
}

/// A sign by which a caller is told from the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identify {
    /// The value of a header field (`header:NAME`).
    Header(String),
    /// A parameter of the matched path (`path:NAME`).
    Path(String),
    /// The user name of HTTP basic authentication.
    BasicUser,
    /// The bearer token.
    Bearer,
    /// The address.
    Ip,
}

impl Scalar for Identify {
    fn expected() -> Cow<'static, str> {
        "header:NAME, path:NAME, basic_user, bearer or ip".into()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let Raw::Text(text) = raw else { return None };
        let (sign, name) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        match (sign, name) {
            ("basic_user", "") => Some(Identify::BasicUser),
            ("bearer", "") => Some(Identify::Bearer),
            ("ip", "") => Some(Identify::Ip),
            ("header", name) if is_field_name(name) => Some(Identify::Header(name.to_owned())),
            ("path", name) if !name.is_empty() => Some(Identify::Path(name.to_owned())),
            _ => None,
        }
    }

    fn forms() -> Vec<Value> {
        vec![pattern("^(ip|basic_user|bearer|(header|path):.+)$")]
    }
}

/// A field name is a token (RFC 9110 section 5.1).
fn is_field_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}
