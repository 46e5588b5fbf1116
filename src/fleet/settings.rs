//! Where the store that replicas share is, and as whom we speak to it.
//!
//! Read from a URL by hand, so that nothing in it is taken for a switch: a fragment that turns
//! certificates off, say. It has no `Debug` that could show the password. Made by the compiler of the
//! configuration.

use crate::clock::Duration;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::path::PathBuf;
use url::Url;

/// Everything that is needed to reach the store.
#[derive(Clone)]
pub struct Settings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether to speak TLS.
    pub tls: bool,
    /// The number of the database.
    pub database: i64,
    /// The user, where the store has several.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretString>,
    /// The file that holds the password, where one does; it is read again for each connection.
    pub password_file: Option<PathBuf>,
    /// Authorities to trust in place of the machine's, as PEM.
    pub authorities: Option<Vec<u8>>,
    /// Whether the store is a cluster, which says where each key is.
    pub cluster: bool,
    /// Every key begins with it.
    pub prefix: String,
    /// The longest that a request waits for one answer.
    pub timeout: Duration,
}

impl Settings {
    /// What a URL says: `redis://` or `rediss://`, `[user][:password]@host[:port][/database]`.
    ///
    /// # Errors
    /// What is wrong with it, without a piece of it.
    pub fn of_url(text: &str) -> Result<Settings, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "it is no URL")?;
        let tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err("its scheme is neither redis nor rediss"),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it has a query or a fragment, which mean nothing here");
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("it names no host")?;
        let database = match url.path().trim_matches('/') {
            "" => Some(0),
            number => number.parse().ok().filter(|number| *number >= 0),
        };
        let database = database.ok_or("its path is no database")?;
        if url.port() == Some(0) {
            return Err("nothing can listen on its port");
        }
        Ok(Settings {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(6379),
            tls,
            database,
            username: decoded(url.username())?,
            password: decoded(url.password().unwrap_or_default())?.map(SecretString::from),
            password_file: None,
            authorities: None,
            cluster: false,
            prefix: "trunkline".to_owned(),
            timeout: Duration::from_millis(25),
        })
    }

    /// Host and port, fit to be shown.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn decoded(part: &str) -> Result<Option<String>, &'static str> {
    let text = percent_decode_str(part)
        .decode_utf8()
        .map_err(|_| "its user or password is not UTF-8")?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let plain = |s: &Settings| {
            let places = (s.host.clone(), s.port, s.tls, s.database);
            let trust = (
                s.username.clone(),
                s.authorities.clone(),
                s.password_file.clone(),
            );
            (places, trust, s.cluster, s.prefix.clone(), s.timeout)
        };
        // What a file holds changes without a restart.
        let secret = |s: &Settings| {
            let fixed = s.password.as_ref().filter(|_| s.password_file.is_none());
            fixed.map(|p| p.expose_secret().to_owned())
        };
        plain(self) == plain(other) && secret(self) == secret(other)
    }
}

impl Eq for Settings {}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({})", self.address())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_as_whom() {
        let found = Settings::of_url("rediss://me:p%40ss@cache.example:6380/2").unwrap();
        assert_eq!(found.address(), "cache.example:6380");
        assert!(found.tls && found.database == 2);
        assert_eq!(found.username.as_deref(), Some("me"));
        assert_eq!(found.password.as_ref().unwrap().expose_secret(), "p@ss");
        let plain = Settings::of_url("redis://[::1]").unwrap();
        assert_eq!(plain.address(), "[::1]:6379");
        assert!(!plain.tls && plain.password.is_none() && plain.username.is_none());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for bad in [
            "cache:6379",
            "http://:hunter2@cache",
            "redis://:hunter2@cache/x",
            "rediss://:hunter2@cache/#insecure",
            "redis://:hunter2@cache?protocol=resp3",
            "redis://",
            "redis://:hunter2@cache/-1",
            "redis://:hunter2@cache:0",
        ] {
            let why = Settings::of_url(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let secret = Settings::of_url("redis://:hunter2@cache").unwrap();
        assert_eq!(format!("{secret:?}"), "Settings(cache:6379)");
    }
}
