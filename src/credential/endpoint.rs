//! One call to a token endpoint: a form there, an answer back, within a time.
//!
//! It goes over a connection of its own by the same client as every request, so that TLS and names
//! are checked the same way; it follows no redirect and reads no more than an answer can need.

use super::secret::Secret;
use super::settings::{Endpoint, OAuthSettings};
use crate::clock::Duration;
use crate::upstream::request_body::RequestBody;
use crate::upstream::resolve::Resolver;
use crate::upstream::send::{Link, Waits, send};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use std::sync::Arc;

/// More than this is no answer of a token endpoint, in bytes.
const LARGEST: usize = 64 * 1024;

/// An answer, whole.
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Sends a form and waits for the whole answer.
///
/// # Errors
/// What went wrong, without a secret.
pub async fn post(
    settings: &OAuthSettings,
    endpoint: &Endpoint,
    form: &Secret,
    resolver: &Resolver,
) -> Result<Answered, String> {
    let call = call(settings, endpoint, form, resolver);
    match tokio::time::timeout(settings.total, call).await {
        Ok(answered) => answered,
        Err(_) => Err(format!(
            "the token endpoint gave no answer within {:?}",
            settings.total
        )),
    }
}

async fn call(
    settings: &OAuthSettings,
    endpoint: &Endpoint,
    form: &Secret,
    resolver: &Resolver,
) -> Result<Answered, String> {
    let host = endpoint.target.endpoint(None);
    let host = host.ok_or("the token endpoint's address has no host")?;
    let form = Bytes::copy_from_slice(form.expose().as_bytes());
    let path = match endpoint.target.base() {
        "" => "/",
        path => path,
    };
    let request = Request::post(path)
        .header(header::HOST, host.host_field.clone())
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(
            header::USER_AGENT,
            concat!("trunkline/", env!("CARGO_PKG_VERSION")),
        )
        .body(RequestBody::Whole(Some(form)))
        .map_err(|e| e.to_string())?;
    let link = Link {
        endpoint: &host,
        tls: &settings.tls,
        pool: &Arc::default(),
        resolver,
        upgrades: false,
    };
    let sent = send(&link, &mut Some(request), &waits(settings)).await;
    let mut answer = sent.map_err(|failed| format!("the token endpoint: {}", failed.error))?;
    let body = answer.body_mut().peek(LARGEST + 1).await;
    if body.len() > LARGEST || !answer.body().is_here() {
        return Err("the token endpoint's answer was cut or has no end".to_owned());
    }
    let (head, _) = answer.into_parts();
    Ok(Answered {
        status: head.status,
        fields: head.headers,
        body,
    })
}

fn waits(settings: &OAuthSettings) -> Waits {
    Waits {
        connect: settings.connect,
        ..Waits::within(settings.total, Duration::ZERO)
    }
}
