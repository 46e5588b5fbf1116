//! The store that replicas share: its address, its secrets from files, what every key begins with.
//!
//! Nothing of a URL is ever repeated in a problem, since it may hold a password. Opens files and no
//! socket.

use secrecy::SecretString;

use crate::clock::Duration;
use crate::config::At;
use crate::config::schema::Redis;
use crate::config::units::{Dur, Secret, Text};
use crate::fleet::Settings;

use super::notes::Notes;

/// A request may wait for an answer from 1 ms to this.
const LONGEST: Duration = Duration::from_secs(1);
const SECRETS_HINT: &str = "paths are relative to the directory of this file";

pub(super) fn compile(notes: &mut Notes<'_>) -> Option<Settings> {
    let written = notes.config().redis.as_ref()?;
    let at = At::root().key("redis");
    let mut settings = address(notes, &at, written)?;
    if let Some(password) = secret(notes, &at.key("password_file"), &written.password_file) {
        if settings.password.is_some() {
            let what = "`password_file` and the URL both give a password";
            notes.problem(&at.key("password_file"), what, "leave one of them out");
        }
        settings.password = Some(SecretString::from(password));
        settings.password_file = written.password_file.as_ref().map(|file| notes.path(file));
    }
    settings.authorities = authorities(notes, &at, written, settings.tls);
    settings.cluster = written.cluster.is_some_and(|flag| flag.get());
    if settings.cluster && settings.database != 0 {
        let what = "a cluster has no databases but the first";
        notes.problem(&at.key("url"), what, "leave the path of the URL out");
    }
    if let Some(timeout) = written.timeout.map(Dur::get) {
        if timeout.is_zero() || timeout > LONGEST {
            let what = "a request waits from 1ms to 1s for the shared store";
            notes.problem(&at.key("timeout"), what, "25ms is usual");
        }
        settings.timeout = timeout;
    }
    if let Some(prefix) = &written.prefix {
        notes.check_name(&at.key("prefix"), prefix);
        settings.prefix = prefix.as_str().to_owned();
    }
    warn(notes, &at, &settings);
    Some(settings)
}

fn address(notes: &mut Notes<'_>, at: &At, written: &Redis) -> Option<Settings> {
    let places = (&written.url, &written.url_file);
    let lack = ("`redis` has no url", "add `url: redis://127.0.0.1:6379`");
    let (key, url) = url(notes, at, places, lack)?;
    match Settings::of_url(&url) {
        Ok(settings) => Some(settings),
        Err(why) => {
            let what = format!("the URL of the shared store cannot be used: {why}");
            let hint =
                "write redis://[user][:password]@host[:port][/database], or rediss:// for TLS";
            notes.problem(&at.key(key), what, hint);
            None
        }
    }
}

/// A URL that may be a secret, from its place or its file, and under which key it stands; none where it is
/// empty, which is off. `lack`: what to say where there is neither.
pub(super) fn url(
    notes: &mut Notes<'_>,
    at: &At,
    (given, file): (&Option<Secret>, &Option<Text>),
    (lack, hint): (&str, &str),
) -> Option<(&'static str, String)> {
    let from_file = secret(notes, &at.key("url_file"), file);
    let (key, url) = match (given, from_file) {
        (Some(_), Some(_)) => {
            let what = "`url` and `url_file` are both given";
            notes.problem(&at.key("url_file"), what, "leave one of them out");
            return None;
        }
        (Some(url), None) => ("url", url.expose().to_owned()),
        (None, Some(url)) => ("url_file", url),
        (None, None) if file.is_some() => return None,
        (None, None) => {
            notes.absent(at, "url", lack, hint);
            return None;
        }
    };
    (!url.trim().is_empty()).then(|| (key, url.trim().to_owned()))
}

/// What a file holds, without the end of its last line.
pub(super) fn secret(notes: &mut Notes<'_>, at: &At, file: &Option<Text>) -> Option<String> {
    let path = notes.path(file.as_ref()?);
    let shown = notes.source().shown(at);
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            notes.problem(at, format!("the file {shown} is empty"), SECRETS_HINT);
            None
        }
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            let what = format!("the file {shown} cannot be read: {error}");
            notes.problem(at, what, SECRETS_HINT);
            None
        }
    }
}

fn authorities(notes: &mut Notes<'_>, at: &At, written: &Redis, tls: bool) -> Option<Vec<u8>> {
    let at = at.key("ca_file");
    let path = notes.path(written.ca_file.as_ref()?);
    if !tls {
        let what = "`ca_file` is for TLS, which the URL does not ask for";
        notes.problem(&at, what, "write rediss:// in the URL, or leave it out");
    }
    let shown = notes.source().shown(&at);
    let found = std::fs::read(path).map_err(|error| error.to_string());
    match found.and_then(|pem| check_authorities(&pem).map(|()| pem)) {
        Ok(pem) => Some(pem),
        Err(why) => {
            let what = format!("the file {shown} cannot be used: {why}");
            notes.problem(&at, what, SECRETS_HINT);
            None
        }
    }
}

fn check_authorities(pem: &[u8]) -> Result<(), String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let mut store = rustls::RootCertStore::empty();
        store.add(certificate).map_err(|error| error.to_string())?;
        count += 1;
    }
    match count {
        0 => Err("it holds no certificate".to_owned()),
        _ => Ok(()),
    }
}

fn warn(notes: &mut Notes<'_>, at: &At, settings: &Settings) {
    let near = settings.host == "localhost"
        || settings
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if settings.password.is_some() && !settings.tls && !near {
        let what = "the shared store's password crosses the network unencrypted";
        notes.warn(
            at,
            what,
            "write rediss:// in the URL if the store speaks TLS",
        );
    }
}
