//! Credentials whose tokens are asked for: where, by whom, and what is given for them.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use crate::clock::Duration;
use crate::config::At;
use crate::config::schema::{GrantKind, OAuth2, Provider, TokenTimeouts};
use crate::config::units::{Dur, Text};
use crate::credential::settings::{Endpoint, Grant, OAuthSettings};
use crate::credential::{Kind, Settings, Source};
use crate::upstream::target::Target;

use super::breakers::positive;
use super::credentials::Draft;
use super::notes::Notes;
use super::secrets::secret;
use super::upstreams::tls;
use super::warnings::is_near;

/// How long a call for a token may take, unless the file says otherwise.
const CONNECT: Duration = Duration::from_secs(3);
const TOTAL: Duration = Duration::from_secs(15);

/// The addresses of a provider.
struct Known {
    token: String,
    authorize: String,
    device: String,
}

fn known(provider: Provider, tenant: &str) -> Known {
    match provider {
        Provider::Google => Known {
            token: "https://oauth2.googleapis.com/token".to_owned(),
            authorize: "https://accounts.google.com/o/oauth2/v2/auth".to_owned(),
            device: "https://oauth2.googleapis.com/device/code".to_owned(),
        },
        Provider::Microsoft => {
            let base = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0");
            Known {
                token: format!("{base}/token"),
                authorize: format!("{base}/authorize"),
                device: format!("{base}/devicecode"),
            }
        }
    }
}

pub(super) fn compile(notes: &mut Notes<'_>, at: &At, written: &OAuth2) -> Draft {
    let tenant = written.tenant.as_ref().map_or("common", Text::as_str);
    let known = written.provider.map(|provider| known(provider, tenant));
    let mut address = |key: &str, own: &Option<Text>, of: fn(&Known) -> &String| {
        endpoint(notes, &at.key(key), own, known.as_ref().map(of))
    };
    let token = address("token_url", &written.token_url, |k| &k.token);
    let device = address("device_url", &written.device_url, |k| &k.device);
    let authorize = address("authorize_url", &written.authorize_url, |k| &k.authorize);
    if known.is_none() && written.token_url.is_none() {
        let what = "nothing says where tokens are asked for";
        let hint = "add `provider: google`, `provider: microsoft` or `token_url: ...`";
        notes.absent(at, "token_url", what, hint);
    }
    let tls = Arc::new(tls(notes, &at.key("tls"), &written.tls));
    let (connect, total) = waits(notes, &at.key("timeouts"), &written.timeouts);
    let client_secret = client_secret(notes, at, written);
    let (grant, empty) = match grant(notes, at, written) {
        Ok(grant) => (Some(grant), None),
        Err(empty) => (None, Some(empty)),
    };
    let (Some(token), Some(grant)) = (token, grant) else {
        return (None, empty);
    };
    let scopes: Vec<&str> = written.scopes.iter().map(Text::as_str).collect();
    let id = written.client_id.as_ref();
    let settings = OAuthSettings {
        grant,
        client_id: id.map_or("", Text::as_str).to_owned(),
        client_secret,
        scope: scopes.join(" "),
        token,
        authorize_url: authorize.map(|endpoint| endpoint.url),
        device,
        tls,
        connect,
        total,
    };
    let kind = Kind::OAuth(Arc::new(settings));
    let header = AUTHORIZATION;
    (Some(Settings { header, kind }), None)
}

fn waits(notes: &mut Notes<'_>, at: &At, written: &TokenTimeouts) -> (Duration, Duration) {
    let mut wait = |key: &str, value: Option<Dur>, default| {
        positive(notes, &at.key(key), value).unwrap_or(default)
    };
    (
        wait("connect", written.connect, CONNECT),
        wait("total", written.total, TOTAL),
    )
}

/// An address to which secrets go: https, or this machine.
fn endpoint(
    notes: &mut Notes<'_>,
    at: &At,
    written: &Option<Text>,
    known: Option<&String>,
) -> Option<Endpoint> {
    let url = written
        .as_ref()
        .map(Text::as_str)
        .or(known.map(String::as_str))?;
    match Target::parse(url) {
        Ok(target) if target.parameter().is_none() => {
            if !target.tls() && !is_near(url) {
                let what = "secrets would go there without encryption";
                notes.problem(at, what, "use https://");
            }
            let url = url.to_owned();
            Some(Endpoint { url, target })
        }
        Ok(_) => {
            notes.problem(at, "this address holds a parameter", "write the host out");
            None
        }
        Err(why) => {
            let what = format!("this is not an address: {why}");
            notes.problem(at, what, "write it like https://provider.example/token");
            None
        }
    }
}

/// The client's secret; a client that has none is a public one.
fn client_secret(notes: &mut Notes<'_>, at: &At, written: &OAuth2) -> Option<Source> {
    if written.client_secret.is_none() && written.client_secret_file.is_none() {
        return None;
    }
    let both = (&written.client_secret, &written.client_secret_file);
    secret(notes, at, "client_secret", both).ok()
}

fn grant(notes: &mut Notes<'_>, at: &At, written: &OAuth2) -> Result<Grant, At> {
    let kind = written.grant.unwrap_or(GrantKind::RefreshToken);
    let id = written.client_id.as_ref().map(Text::as_str);
    if kind != GrantKind::JwtBearer {
        match id.map(str::trim) {
            None => {
                notes.absent(
                    at,
                    "client_id",
                    "there is no `client_id`",
                    "add `client_id: ...`",
                );
                return Err(at.key("client_id"));
            }
            Some("") => return Err(at.key("client_id")),
            Some(_) => {}
        }
    }
    match kind {
        GrantKind::ClientCredentials => Ok(Grant::ClientCredentials),
        GrantKind::RefreshToken => refresh_token(notes, at, written).map(Grant::RefreshToken),
        GrantKind::JwtBearer => {
            let key = secret(notes, at, "key", (&None, &written.key_file))?;
            let subject = written.subject.as_ref().map(|subject| subject.as_str());
            let subject = subject.filter(|subject| !subject.is_empty());
            let subject = subject.map(str::to_owned);
            Ok(Grant::JwtBearer { key, subject })
        }
    }
}

/// A file that is not there yet is no problem: `login` makes it.
fn refresh_token(notes: &mut Notes<'_>, at: &At, written: &OAuth2) -> Result<Source, At> {
    let file = written.refresh_token_file.as_ref();
    let file = file.filter(|file| !file.trim().is_empty());
    let (Some(file), None) = (file, &written.refresh_token) else {
        let both = (&written.refresh_token, &written.refresh_token_file);
        return secret(notes, at, "refresh_token", both);
    };
    let path = notes.path(file);
    if !path.exists() {
        let what = format!("the file {} is not there yet", path.display());
        let at = at.key("refresh_token_file");
        notes.warn(&at, what, "`trunkline login` puts a refresh token there");
        return Ok(Source::File(path));
    }
    secret(
        notes,
        at,
        "refresh_token",
        (&None, &written.refresh_token_file),
    )
}
