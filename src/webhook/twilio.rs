//! Twilio's signature: an HMAC over the public address and, for a form, its parameters.
//!
//! `X-Twilio-Signature` is base64 of HMAC-SHA1, or of HMAC-SHA256 where
//! `X-Twilio-Webhooks-Signature-Settings` says so, over the address and then each distinct pair of
//! name and value, sorted. Any other body stands in the address by its hash (`bodySHA256`). Decides as
//! Twilio's own library does; a body that neither covers is refused.

use super::event::{By, Event};
use super::public_url::PublicUrl;
use super::secret::Secrets;
use super::{Call, Denied, hex, is_equal, single};
use crate::clock::Instant;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, header};
use std::borrow::Cow;
use url::form_urlencoded;

static SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
static SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");

/// Twilio's retries of a request carry the token of the first.
static TOKEN: HeaderName = HeaderName::from_static("i-twilio-idempotency-token");

/// The parameter of the address that holds the hash of the body.
const BODY_HASH: &str = "bodySHA256";
/// More parameters than this are no webhook: Twilio sends some dozens, and sorting takes time.
const MOST_PARAMS: usize = 10_000;

const NO_SIGNATURE: Denied = Denied("it carries no X-Twilio-Signature, or more than one");
const NO_ALGORITHM: Denied =
    Denied("its X-Twilio-Webhooks-Signature-Settings name an algorithm that is not known");
const UNCOVERED: Denied = Denied(
    "its signature does not cover its body, which is neither a form nor hashed into the address as bodySHA256",
);
const WRONG_BODY: Denied = Denied("its body is not the one that bodySHA256 in its address names");
const TOO_MANY: Denied = Denied("its form has too many parameters");
const WRONG: Denied = Denied(
    "its X-Twilio-Signature does not fit: it was not signed with a secret of this route for the address \
     that public_url and its target make, or it was changed on its way",
);

/// What tells Twilio's requests from anybody's.
pub struct Twilio {
    /// Where Twilio believes the application to be.
    pub url: PublicUrl,
    /// The account's auth tokens, and shared keys.
    pub secrets: Secrets,
}

type Params<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl Twilio {
    /// Whether the head has what a signed request must have.
    pub(super) fn glance(&self, fields: &HeaderMap) -> Result<(), Denied> {
        signature(fields)?;
        algorithm(fields).map(|_| ())
    }

    /// Whether the signature fits.
    pub(super) fn verify(&self, call: &Call<'_>, now: Instant) -> Result<(), Denied> {
        let signature = signature(call.fields)?;
        let algorithm = algorithm(call.fields)?;
        let params = covered(call)?;
        let addresses = self.url.spellings(call.websocket, call.target);
        let mut fits = false;
        self.secrets.each(now, |secret| {
            let key = hmac::Key::new(algorithm, secret);
            for address in &addresses {
                fits |= is_equal(sign(&key, address, &params).as_bytes(), signature);
            }
        });
        if fits { Ok(()) } else { Err(WRONG) }
    }
}

/// The event that a verified request tells of. The signature covers address and parameters, so that it
/// stands for both, however the body is written. What only reads may come for every call without a token,
/// as the sound files of a `<Play>` do, and all Media Streams shake hands alike.
pub(super) fn event<'a>(call: &Call<'a>, by: By) -> Option<Event<'a>> {
    let signature = signature(call.fields).ok()?;
    let token = single(call.fields, &TOKEN);
    let reads = matches!(*call.method, Method::GET | Method::HEAD) && call.body.is_empty();
    if call.websocket || (reads && token.is_none()) {
        return None;
    }
    let named = token.unwrap_or_default();
    Some(match by {
        By::Token => Event {
            may_be_retry: token.is_some(),
            ..Event::of([signature, named])
        },
        By::Signature => Event {
            delivery: Cow::Borrowed(named),
            may_be_retry: token.is_some(),
            ..Event::of([signature])
        },
    })
}

/// The signature of a request.
pub(super) fn signature(fields: &HeaderMap) -> Result<&[u8], Denied> {
    single(fields, &SIGNATURE).ok_or(NO_SIGNATURE)
}

/// The first algorithm that the settings name; without any, the old one.
fn algorithm(fields: &HeaderMap) -> Result<hmac::Algorithm, Denied> {
    let legacy = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    if !fields.contains_key(&SETTINGS) {
        return Ok(legacy);
    }
    let settings = single(fields, &SETTINGS).ok_or(NO_ALGORITHM)?;
    let settings = std::str::from_utf8(settings).map_err(|_| NO_ALGORITHM)?;
    let mut pairs = settings.split(',').filter_map(|part| part.split_once('='));
    let named = pairs.find(|(name, value)| name.trim() == "algorithm" && !value.trim().is_empty());
    match named.map(|(_, value)| value.trim().to_ascii_uppercase()) {
        None => Ok(legacy),
        Some(name) if name == "HMAC_SHA1" => Ok(legacy),
        Some(name) if name == "HMAC_SHA256" => Ok(hmac::HMAC_SHA256),
        Some(_) => Err(NO_ALGORITHM),
    }
}

/// The parameters that are signed beside the address; together they leave nothing of the body out.
fn covered<'a>(call: &Call<'a>) -> Result<Params<'a>, Denied> {
    let query = call.target.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let hash = pairs.find(|(name, value)| name == BODY_HASH && !value.is_empty());
    if let Some((_, hash)) = hash {
        let found = is_equal(
            hex(digest::digest(&digest::SHA256, call.body).as_ref()).as_bytes(),
            hash.as_bytes(),
        );
        return if found {
            Ok(Vec::new())
        } else {
            Err(WRONG_BODY)
        };
    }
    if is_form(call.fields) {
        return params(call.body);
    }
    if call.body.is_empty() {
        Ok(Vec::new())
    } else {
        Err(UNCOVERED)
    }
}

fn is_form(fields: &HeaderMap) -> bool {
    let media = single(fields, &header::CONTENT_TYPE).unwrap_or_default();
    let media = media.split(|b| *b == b';').next().unwrap_or_default();
    media
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Each distinct pair of a form, sorted; neither names nor values are trimmed, and may be empty.
fn params(body: &[u8]) -> Result<Params<'_>, Denied> {
    let mut params: Params<'_> = form_urlencoded::parse(body).take(MOST_PARAMS + 1).collect();
    if params.len() > MOST_PARAMS {
        return Err(TOO_MANY);
    }
    // Bytes of UTF-8 sort as their characters do.
    params.sort_unstable();
    params.dedup();
    Ok(params)
}

fn sign(key: &hmac::Key, address: &str, params: &Params<'_>) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(address.as_bytes());
    for (name, value) in params {
        context.update(name.as_bytes());
        context.update(value.as_bytes());
    }
    STANDARD.encode(context.sign())
}

#[cfg(test)]
mod tests;
