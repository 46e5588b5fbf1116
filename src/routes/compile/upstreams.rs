//! The upstreams: where they are, how TLS is spoken to them, and which hosts a parameter may name.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::config::At;
use crate::config::schema::{self, UpstreamTls};
use crate::profile::{Dialect, Profile};
use crate::routes::plan::{Authorizes, UpstreamPlan};
use crate::upstream::target::Target;
use crate::upstream::tls::{self, Tls, TlsSettings};

use super::Known;
use super::attempts;
use super::breakers;
use super::credentials;
use super::notes::Notes;
use super::profiles;

/// Stands in for a URL that is a problem, so that the rest can be checked.
const NOWHERE: &str = "http://127.0.0.1";

/// Every upstream of the file, in its order and under its index.
pub(super) fn compile(notes: &mut Notes<'_>, known: Known<'_>) -> Vec<UpstreamPlan> {
    let written = notes.config().upstreams.iter();
    written
        .filter_map(|(name, upstream)| one(notes, name, upstream, known))
        .collect()
}

fn one(
    notes: &mut Notes<'_>,
    name: &str,
    written: &schema::Upstream,
    known: Known<'_>,
) -> Option<UpstreamPlan> {
    let at = At::root().key("upstreams").key(name);
    notes.check_name(&at, name);
    let defaults = &notes.config().defaults;
    let profile = profiles::named(
        notes,
        &at.key("profile"),
        written.profile.as_ref(),
        known.profiles,
    );
    let target = target(notes, &at, written, profile.as_ref());
    let url = written.url.as_ref().map_or("", |url| url.as_str());
    let plan = UpstreamPlan {
        name: name.to_owned(),
        url: url.trim_end_matches('/').to_owned(),
        profile: profile.unwrap_or(Profile::from(Dialect::Generic)),
        tls: Arc::new(tls(notes, &at.key("tls"), &written.tls)),
        rewrite_answers: written.rewrite_answers.map(|flag| flag.get()),
        forwarded: written
            .forwarded
            .or(defaults.forwarded)
            .is_some_and(|flag| flag.get()),
        authorizes: credentials::used(notes, &at, written.credential.as_ref(), known.credentials)
            .unwrap_or(Authorizes::Caller),
        allow_from: credentials::networks(notes, &at, written.allow_from.as_ref()),
        token_file: credentials::token_file(notes, &at, written.caller_token_file.as_ref()),
        preserve_host: written.preserve_host.is_some_and(|flag| flag.get()),
        allow: allow(notes, &at.key("allow"), written, target.as_ref()),
        timeouts: breakers::timeouts(&[&written.timeouts, &defaults.timeouts]),
        concurrency: attempts::concurrency(&[&written.concurrency, &defaults.concurrency]),
        breaker: breakers::settings(&[&written.breaker, &defaults.breaker]),
        set_by: breakers::set_by(notes, &at.key("breaker"), &written.breaker),
        target: target.or_else(|| Target::parse(NOWHERE).ok())?,
    };
    breakers::check_timeouts(notes, &at.key("timeouts"), &written.timeouts);
    attempts::check_retry(notes, &at.key("retry"), &written.retry);
    breakers::check(notes, &at.key("breaker"), &written.breaker);
    Some(plan)
}

fn target(
    notes: &mut Notes<'_>,
    at: &At,
    written: &schema::Upstream,
    profile: Option<&Profile>,
) -> Option<Target> {
    let Some(url) = &written.url else {
        notes.absent(
            at,
            "url",
            "this upstream has no url",
            "add `url: https://api.example.com`",
        );
        return None;
    };
    let at = at.key("url");
    match Target::parse(url) {
        Err(why) => {
            let what = format!("the URL of this upstream cannot be used: {why}");
            notes.problem(&at, what, "write it like https://api.example.com");
            None
        }
        Ok(target) => {
            if let Some(name) = target.parameter()
                && !profile.is_some_and(|profile| profile.restricts(name))
                && written.allow.get(name).is_none()
            {
                unrestricted(notes, &at, name);
            }
            Some(target)
        }
    }
}

/// What leads the host comes from clients, so only a closed list may decide it.
fn unrestricted(notes: &mut Notes<'_>, at: &At, name: &str) {
    notes.problem(
        at,
        format!("nothing restricts `{{{name}}}`, so that a client could choose any host"),
        format!("list its values: `allow: {{ {name}: [...] }}`"),
    );
}

fn allow(
    notes: &mut Notes<'_>,
    at: &At,
    written: &schema::Upstream,
    target: Option<&Target>,
) -> Vec<(String, Vec<String>)> {
    let parameter = target.and_then(Target::parameter);
    let mut lists = Vec::with_capacity(written.allow.len());
    for (name, values) in written.allow.iter() {
        let at = at.key(name);
        if values.is_empty() {
            notes.problem(
                &at,
                format!("`{name}` may have no value at all"),
                "list those it may have",
            );
        }
        for (index, value) in values.iter().enumerate() {
            if parameter == Some(name) && !is_host_part(value) {
                let at = at.index(index);
                let what = format!("{} cannot lead a host name", notes.source().shown(&at));
                notes.problem(&at, what, "use letters, digits, `-` and `.`");
            }
        }
        let values = values
            .iter()
            .map(|value| value.as_str().to_owned())
            .collect();
        lists.push((name.to_owned(), values));
    }
    lists
}

fn is_host_part(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(inner);
    value.len() <= 128 && value.split('.').all(label)
}

/// Opens the files of a `tls` block.
pub(super) fn tls(notes: &mut Notes<'_>, at: &At, written: &UpstreamTls) -> Tls {
    let mut settings = TlsSettings::default();
    if let Some(file) = &written.ca_file {
        settings.roots = opened(notes, &at.key("ca_file"), file, tls::read_roots);
    }
    match (&written.client_certificate_file, &written.client_key_file) {
        (Some(chain), Some(key)) => {
            let chain = opened(
                notes,
                &at.key("client_certificate_file"),
                chain,
                tls::read_chain,
            );
            let key = opened(notes, &at.key("client_key_file"), key, tls::read_key);
            settings.identity = chain.zip(key);
        }
        (Some(_), None) => {
            let what = "a certificate of ours needs its key";
            notes.problem(at, what, "add `client_key_file: ...`");
        }
        (None, Some(_)) => {
            let what = "a key of ours needs its certificate";
            notes.problem(at, what, "add `client_certificate_file: ...`");
        }
        (None, None) => {}
    }
    if let Some(name) = &written.server_name {
        let at = at.key("server_name");
        match ServerName::try_from(name.as_str().to_owned()) {
            Ok(name) => settings.server_name = Some(name),
            Err(_) => {
                let what = format!("{} is not the name of a server", notes.source().shown(&at));
                notes.problem(&at, what, "give the name that its certificate carries");
            }
        }
    }
    let ours = settings.identity.is_some();
    let tls = Tls::new(settings);
    if ours && let Err(why) = tls.config() {
        let what = format!("certificate and key cannot be used together: {why}");
        notes.problem(
            &at.key("client_certificate_file"),
            what,
            "give the key of this certificate",
        );
    }
    tls
}

fn opened<T>(
    notes: &mut Notes<'_>,
    at: &At,
    written: &str,
    read: fn(&std::path::Path) -> Result<T, String>,
) -> Option<T> {
    let path = notes.path(written);
    read(&path)
        .map_err(|why| {
            let what = format!(
                "the file {} cannot be used: {why}",
                notes.source().shown(at)
            );
            notes.problem(at, what, "paths are relative to the directory of this file");
        })
        .ok()
}
