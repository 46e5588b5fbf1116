//! Credentials: what each is, who uses it, and that nobody else can.
//!
//! A credential whose values are empty is *not set*: a route may do without one that is optional, and
//! every other use of it is a problem. One that is set goes only over https or within this machine,
//! and off loopback only for callers who prove themselves.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use crate::config::At;
use crate::config::schema::{self, BasicCredential, Credential, FieldCredential, UsedCredential};
use crate::config::units::{Network, Text};
use crate::credential::{Kind, Secret, Settings};
use crate::routes::plan::UpstreamPlan;
use crate::routes::plan::{Authorizes, CallersPlan, CredentialPlan, Process, RoutePlan, Rung};
use crate::routes::rule::Rule;

use super::notes::Notes;
use super::oauth;
use super::secrets::{check_file, secret};
use super::warnings::is_near;

/// Fields that are ours to fill, or that frame a message.
const NOT_TO_FILL: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Every credential of the file, in its order and under its index.
pub(super) fn named(notes: &mut Notes<'_>) -> Vec<CredentialPlan> {
    let written = notes.config().credentials.iter();
    written
        .map(|(name, credential)| {
            let at = At::root().key("credentials").key(name);
            notes.check_name(&at, name);
            let (settings, empty) = one(notes, &at, credential);
            CredentialPlan {
                name: name.to_owned(),
                settings: settings.map(Arc::new),
                set_by: empty.map_or_else(String::new, |empty| notes.set_by(&empty)),
            }
        })
        .collect()
}

/// What a credential is, or the place that is empty where it is not set.
pub(super) type Draft = (Option<Settings>, Option<At>);

fn one(notes: &mut Notes<'_>, at: &At, written: &Credential) -> Draft {
    let kinds = [
        written.header.is_some(),
        written.basic.is_some(),
        written.oauth2.is_some(),
    ];
    if kinds.iter().filter(|kind| **kind).count() > 1 {
        let what = "this credential has more than one kind";
        notes.problem(at, what, "keep one of them");
        return (None, None);
    }
    if let Some(field) = &written.header {
        return plain(notes, &at.key("header"), field);
    }
    if let Some(basic) = &written.basic {
        return self::basic(notes, &at.key("basic"), basic);
    }
    if let Some(oauth2) = &written.oauth2 {
        return oauth::compile(notes, &at.key("oauth2"), oauth2);
    }
    let unread = ["header", "basic", "oauth2"].map(|key| notes.is_unread(&at.key(key)));
    if !unread.contains(&true) {
        let hint = "add `header: { value_file: ... }`, `basic: { ... }` or `oauth2: { ... }`";
        notes.problem(at, "this credential has no kind", hint);
    }
    (None, None)
}

fn plain(notes: &mut Notes<'_>, at: &At, written: &FieldCredential) -> Draft {
    let name = written.name.as_ref().map_or("Authorization", Text::as_str);
    let header = HeaderName::from_bytes(name.as_bytes());
    let header = header
        .ok()
        .filter(|name| !NOT_TO_FILL.contains(&name.as_str()));
    if header.is_none() {
        // What is no name at all may be the secret.
        let shown = match NOT_TO_FILL.contains(&name.to_ascii_lowercase().as_str()) {
            true => format!("{name:?}"),
            false => "this".to_owned(),
        };
        let what = format!("{shown} is no field that a credential can fill");
        notes.problem(&at.key("name"), what, "Authorization is usual");
    }
    let prefix = written.prefix.as_ref().map_or("", Text::as_str);
    if HeaderValue::from_str(prefix).is_err() {
        let what = "the prefix holds what no header field can carry";
        notes.problem(&at.key("prefix"), what, "`\"Bearer \"` is usual");
    }
    let secret = secret(notes, at, "value", (&written.value, &written.value_file));
    let (Some(header), Ok(value)) = (header, secret.clone()) else {
        return (None, secret.err());
    };
    let prefix = prefix.to_owned();
    let kind = Kind::Plain { prefix, value };
    (Some(Settings { header, kind }), None)
}

fn basic(notes: &mut Notes<'_>, at: &At, written: &BasicCredential) -> Draft {
    let username = written.username.as_ref().map(Text::as_str);
    if username.is_none() {
        let hint = "add `username: ...`";
        notes.absent(
            at,
            "username",
            "basic authentication needs a user name",
            hint,
        );
    }
    let username = username.unwrap_or_default();
    if username.contains(':') {
        let what = "a user name cannot hold a colon (RFC 7617)";
        notes.problem(&at.key("username"), what, "check it");
    }
    let files = (&written.password, &written.password_file);
    let secret = secret(notes, at, "password", files);
    if username.is_empty() {
        return (None, Some(at.key("username")));
    }
    match secret {
        Err(empty) => (None, Some(empty)),
        Ok(password) => {
            let (header, username) = (header::AUTHORIZATION, username.to_owned());
            let kind = Kind::Basic { username, password };
            (Some(Settings { header, kind }), None)
        }
    }
}

/// Who authorizes what goes to an upstream or route that says so; `at` is its block.
pub(super) fn used(
    notes: &mut Notes<'_>,
    at: &At,
    written: Option<&UsedCredential>,
    all: &[CredentialPlan],
) -> Option<Authorizes> {
    let written = written?;
    let at = at.key("credential");
    if written.name.is_empty() {
        let hint = "write `credential: NAME`";
        notes.problem(&at, "the credential is not named", hint);
        return None;
    }
    let known = all.iter().map(|credential| credential.name.as_str());
    let index = notes.resolve(&at, &written.name, "credentials", known)?;
    let credential = all.get(index)?;
    if credential.settings.is_some() {
        return Some(Authorizes::Held(index));
    }
    if !written.optional && !credential.set_by.is_empty() {
        let what = format!("the credential {} is not set", credential.name);
        let hint = format!(
            "{} sets it; or write `credential: {{ name: {}, optional: true }}`",
            credential.set_by, credential.name
        );
        notes.problem(&at, what, hint);
    }
    Some(Authorizes::CallerInstead(index))
}

/// Who may use a route: by its own keys, else by its upstream's, else by those of its ladder.
pub(super) fn callers(
    notes: &mut Notes<'_>,
    at: &At,
    route: &schema::Route,
    rule: &Rule,
    plan: (Authorizes, &[Rung], &[UpstreamPlan]),
) -> Option<CallersPlan> {
    let (authorizes, ladder, upstreams) = plan;
    let own = CallersPlan {
        allow_from: networks(notes, at, route.allow_from.as_ref()),
        token_file: token_file(notes, at, route.caller_token_file.as_ref()),
        holds: authorizes.held().is_some(),
        names_host: rule.host.is_some(),
    };
    let first = route.upstream.as_deref();
    let first = first.and_then(|name| upstreams.iter().find(|upstream| upstream.name == name));
    let rungs = ladder.iter().filter_map(|rung| match rung {
        Rung::Upstream { index, .. } => upstreams.get(*index),
        Rung::Stub(_) | Rung::Stale => None,
    });
    let all = rungs.clone().fold(own, |mut callers, upstream| {
        callers.holds |= upstream.authorizes.held().is_some();
        callers
    });
    let all = first
        .into_iter()
        .chain(rungs)
        .fold(all, |callers, upstream| CallersPlan {
            allow_from: callers.allow_from.or_else(|| upstream.allow_from.clone()),
            token_file: callers.token_file.or_else(|| upstream.token_file.clone()),
            ..callers
        });
    let matters = all.holds || all.allow_from.is_some() || all.token_file.is_some();
    matters.then_some(all)
}

pub(super) fn networks(
    notes: &mut Notes<'_>,
    at: &At,
    written: Option<&Vec<Network>>,
) -> Option<Vec<ipnet::IpNet>> {
    let written = written?;
    if notes.source().is_empty_list(&at.key("allow_from")) {
        let what = "an empty `allow_from` lets nobody in";
        notes.problem(
            &at.key("allow_from"),
            what,
            "name networks, or remove the key",
        );
    }
    Some(written.iter().map(|network| network.get()).collect())
}

pub(super) fn token_file(
    notes: &mut Notes<'_>,
    at: &At,
    written: Option<&Text>,
) -> Option<PathBuf> {
    let path = notes.path(written?);
    let at = at.key("caller_token_file");
    check_file(notes, &at, &path, Secret::read_line);
    Some(path)
}

/// What goes out with a credential of ours, as far as one place of the file says.
struct Lead<'a> {
    at: At,
    credential: &'a CredentialPlan,
    upstream: &'a UpstreamPlan,
}

/// The rules that hold between a credential, its upstream and the way to it.
pub(super) fn check(
    notes: &mut Notes<'_>,
    process: &Process,
    (rules, routes): (&[Rule], &[RoutePlan]),
    (upstreams, all): (&[UpstreamPlan], &[CredentialPlan]),
) {
    let held = |authorizes: Authorizes| authorizes.held().and_then(|index| all.get(index));
    let mut leads: Vec<Lead<'_>> = Vec::new();
    for upstream in upstreams {
        let at = At::root()
            .key("upstreams")
            .key(&upstream.name)
            .key("credential");
        leads.extend(held(upstream.authorizes).map(|credential| Lead {
            at,
            credential,
            upstream,
        }));
    }
    for (index, route) in routes.iter().enumerate() {
        let written = notes.config().routes.get(index);
        let own = written.is_some_and(|route| route.credential.is_some());
        let upstream = route.upstream.and_then(|index| upstreams.get(index));
        if let (true, Some(credential), Some(upstream)) = (own, held(route.authorizes), upstream) {
            let at = At::root().key("routes").index(index).key("credential");
            leads.push(Lead {
                at,
                credential,
                upstream,
            });
        }
    }
    for lead in leads {
        in_the_clear(notes, &lead);
    }
    let mut told: Vec<At> = Vec::new();
    for (index, (rule, route)) in rules.iter().zip(routes).enumerate() {
        let at = place(notes, index);
        if let Some(what) = open(process, rule, route)
            && !told.contains(&at)
        {
            notes.problem(&at, what, CLOSE);
            told.push(at);
        }
    }
}

fn in_the_clear(notes: &mut Notes<'_>, lead: &Lead<'_>) {
    let upstream = lead.upstream;
    if !upstream.target.tls() && !is_near(&upstream.url) {
        let (credential, name) = (&lead.credential.name, &upstream.name);
        let what = format!("the credential {credential} would go to {name} without encryption");
        notes.problem(&lead.at, what, "use https://");
    }
}

const CLOSE: &str = "add `allow_from: [...]` or `caller_token_file: ...`, ask for client \
    certificates (`tls.client_ca_file`), or listen on 127.0.0.1";

/// How strangers could call on our account through a route, if they can.
fn open(process: &Process, rule: &Rule, route: &RoutePlan) -> Option<String> {
    let callers = route.callers.as_ref().filter(|callers| callers.holds)?;
    if callers.allow_from.is_some() || callers.token_file.is_some() {
        return None;
    }
    let mut listeners = process.listeners.iter().enumerate();
    let (_, listener) = listeners.find(|(number, listener)| {
        let tls = listener.tls.as_ref();
        let mutual = tls.is_some_and(|tls| tls.client_ca.is_some());
        let reaches = rule
            .listener
            .is_none_or(|bound| usize::from(bound) == *number);
        reaches && !mutual && !listener.address.ip().is_loopback()
    })?;
    Some(format!(
        "whoever reaches {} could call with a credential of ours, through the listener {}",
        listener.address, listener.name
    ))
}

/// Where the credential of a route is written: in itself, in its upstream, or in one of its ladder.
fn place(notes: &Notes<'_>, index: usize) -> At {
    let routes = At::root().key("routes").index(index);
    let config = notes.config();
    let route = config.routes.get(index);
    if route.is_some_and(|route| route.credential.is_some()) {
        return routes.key("credential");
    }
    let upstream = route.and_then(|route| route.upstream.as_deref());
    match upstream.and_then(|name| config.upstreams.get(name).map(|written| (name, written))) {
        Some((name, written)) if written.credential.is_some() => {
            At::root().key("upstreams").key(name).key("credential")
        }
        _ => routes.key("fallback"),
    }
}
