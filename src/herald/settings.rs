//! Who is told, with which signature, and what every message says of its sender. Built when the
//! configuration is compiled.
//!
//! The address may hold a token in its path or query: only scheme and host are ever shown.

use crate::clock::Duration;
use crate::upstream::pool::Pool;
use crate::upstream::target::{Endpoint, Target};
use crate::upstream::tls::Tls;
use crate::webhook::Secrets;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Who is told and how.
pub struct Settings {
    /// The receiver.
    pub endpoint: Arc<Endpoint>,
    /// Path and query there: possibly a secret.
    pub(super) path: String,
    /// How TLS is spoken to it.
    pub tls: Tls,
    /// What messages are signed with: a signature for each, so that a rotation has a while with both.
    pub secrets: Secrets,
    /// How long one try may take.
    pub timeout: Duration,
    /// How long after a change it is still worth telling.
    pub give_up_after: Duration,
    /// What every message says of its sender.
    pub about: About,
    pub(super) pool: Arc<Pool>,
}

/// Where a receiver is: the host, and path and query there.
pub struct Address(Arc<Endpoint>, String);

/// What every message says of its sender.
#[derive(Default)]
pub struct About {
    /// This process among others.
    pub instance: String,
    /// development, staging or production.
    pub environment: &'static str,
    /// The hash of the configuration that was in force.
    pub config: String,
    /// The upstreams that each circuit guards.
    pub guards: Vec<(String, Vec<String>)>,
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn parse(url: &str) -> Result<Address, String> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("it begins with neither http:// nor https://".to_owned());
        }
        let plain = url.split(['?', '#']).next().unwrap_or_default();
        if url.contains(['#', '{', '}']) {
            return Err("it has a fragment or a brace".to_owned());
        }
        let target = Target::parse(plain)?;
        let endpoint = target.endpoint(None).ok_or("it names no host")?;
        // Path and query as they stand, the last slash included.
        let behind = url.split_once("://").map_or("", |(_, behind)| behind);
        let path = match behind.find(['/', '?']).map(|at| behind.split_at(at).1) {
            None => "/".to_owned(),
            Some(query) if query.starts_with('?') => format!("/{query}"),
            Some(path) => path.to_owned(),
        };
        match path.parse::<http::uri::PathAndQuery>() {
            Ok(_) => Ok(Address(endpoint, path)),
            Err(_) => Err("its path or query cannot be sent".to_owned()),
        }
    }

    /// The host.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl Settings {
    /// Settings with the waits that the file leaves out.
    pub fn new(address: Address, tls: Tls, secrets: Secrets) -> Self {
        Settings {
            endpoint: address.0,
            path: address.1,
            tls,
            secrets,
            timeout: Duration::from_secs(5),
            give_up_after: Duration::from_secs(300),
            about: About::default(),
            pool: Arc::default(),
        }
    }

    /// Scheme and host: fit to be shown.
    pub fn receiver(&self) -> String {
        let scheme = if self.endpoint.tls { "https" } else { "http" };
        let host = self.endpoint.host_field.to_str().unwrap_or_default();
        format!("{scheme}://{host}")
    }
}

impl About {
    /// A message about a circuit, as JSON.
    pub(super) fn body(&self, id: &str, circuit: &str, facts: &Value) -> Vec<u8> {
        let guarded = self.guards.iter().find(|(name, _)| name == circuit);
        let guarded = guarded.map_or(&[][..], |(_, upstreams)| upstreams);
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
        put("type", "breaker.transition".into());
        put("id", id.into());
        put("breaker", circuit.into());
        put("upstreams", guarded.into());
        for (key, value) in facts.as_object().into_iter().flatten() {
            put(key, value.clone());
        }
        put("instance", self.instance.as_str().into());
        put("environment", self.environment.into());
        put("config", self.config.as_str().into());
        put("version", env!("CARGO_PKG_VERSION").into());
        Value::Object(body).to_string().into_bytes()
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock;
    use crate::webhook::Written;

    pub(crate) fn somewhere() -> Settings {
        let address = Address::parse("http://127.0.0.1:1/hook").unwrap();
        let given = ["secret".into()];
        let secrets = Secrets::open(&given, vec![], Written::Standard, clock::now()).unwrap();
        Settings::new(address, Tls::default(), secrets)
    }

    #[test]
    fn an_address_keeps_its_query_and_is_shown_without_its_path() {
        let Address(endpoint, path) =
            Address::parse("https://h.example:8443/a/canary/?t=1").unwrap();
        assert_eq!((endpoint.port, path.as_str()), (8443, "/a/canary/?t=1"));
        for (url, path) in [
            ("http://h?x", "/?x"),
            ("http://h/", "/"),
            ("http://h/a", "/a"),
        ] {
            assert_eq!(Address::parse(url).unwrap().1, path);
        }
        let mut settings = somewhere();
        settings.path = "/canary".to_owned();
        assert_eq!(settings.receiver(), "http://127.0.0.1:1");
    }

    #[test]
    fn what_is_no_address_is_not_repeated() {
        for url in [
            "canary",
            "ftp://canary",
            "https://canary:x@h",
            "https://{canary}.h",
            "http://h/#canary",
            "http://h/?a b canary",
        ] {
            let why = Address::parse(url).err().unwrap();
            assert!(!why.contains("canary"), "{url}: {why}");
        }
    }
}
