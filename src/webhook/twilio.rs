//! Twilio's signature: an HMAC over the public address and, for a form, its parameters.
//!
//! `X-Twilio-Signature` is base64 of HMAC-SHA1, or of HMAC-SHA256 where
//! `X-Twilio-Webhooks-Signature-Settings` says so, over the address and then each distinct pair of
//! name and value, sorted. Any other body stands in the address by its hash (`bodySHA256`). Decides as
//! Twilio's own library does; a body that neither covers is refused.

use super::event::{By, Event};
use super::form;
use super::public_url::PublicUrl;
use super::secret::{Hash, Secret, Secrets};
use super::{Call, Denied, hex, is_equal, single};
use crate::clock::Instant;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, header};
use url::form_urlencoded;

static SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
static SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");

/// Twilio's retries of a request carry the token of the first.
static TOKEN: HeaderName = HeaderName::from_static("i-twilio-idempotency-token");

/// The parameter of the address that holds the hash of the body.
const BODY_HASH: &str = "bodySHA256";
/// The longest signature, as it is written.
const LONGEST: usize = 44;

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

impl Twilio {
    /// Whether the head has what a signed request must have.
    pub(super) fn glance(&self, fields: &HeaderMap) -> Result<(), Denied> {
        signature(fields)?;
        hash(fields).map(|_| ())
    }

    /// Whether the signature fits. Every secret is tried; of the spellings of the address, which are no
    /// secret, only as many as it takes.
    pub(super) fn verify(&self, call: &Call<'_>, now: Instant) -> Result<(), Denied> {
        let signature = signature(call.fields)?;
        let hash = hash(call.fields)?;
        let params = covered(call)?;
        let mut fits = false;
        self.secrets.each(now, |secret| {
            fits |= self.url.any(call.websocket, call.target, |start, target| {
                let signed = [start.as_bytes(), target.as_bytes(), &params];
                made(secret, hash, signed, |made| is_equal(made, signature))
            });
        });
        if fits { Ok(()) } else { Err(WRONG) }
    }
}

/// The event that a verified request tells of. The signature covers address and parameters, so that it
/// stands for both, however the body is written. What only reads may come for every call without a token,
/// as the sound files of a `<Play>` do, and all Media Streams shake hands alike.
pub(super) fn event<'a>(call: &Call<'a>, by: By) -> Option<Event<'a>> {
    let signature = signature(call.fields).ok()?;
    // A token of nothing names no delivery.
    let token = single(call.fields, &TOKEN).map(<[u8]>::trim_ascii);
    let token = token.filter(|token| !token.is_empty());
    let reads = matches!(*call.method, Method::GET | Method::HEAD) && call.body.is_empty();
    if call.websocket || (reads && token.is_none()) {
        return None;
    }
    let named = token.unwrap_or_default();
    Some(match by {
        By::Token => Event {
            parts: [signature, named],
            delivery: b"",
            // Without its token, what only reads is no event.
            unnamed: (token.is_some() && !reads).then_some([signature, b"".as_slice()]),
            may_be_retry: token.is_some(),
        },
        By::Signature => Event {
            parts: [b"signature", signature],
            delivery: named,
            unnamed: None,
            may_be_retry: token.is_some(),
        },
    })
}

/// The signature of a request.
pub(super) fn signature(fields: &HeaderMap) -> Result<&[u8], Denied> {
    single(fields, &SIGNATURE).ok_or(NO_SIGNATURE)
}

/// The first algorithm that the settings name; without any, the old one.
fn hash(fields: &HeaderMap) -> Result<Hash, Denied> {
    let legacy = Hash::Sha1;
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
        Some(name) if name == "HMAC_SHA256" => Ok(Hash::Sha256),
        Some(_) => Err(NO_ALGORITHM),
    }
}

/// The parameters that are signed beside the address; together they leave nothing of the body out.
fn covered(call: &Call<'_>) -> Result<Vec<u8>, Denied> {
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
        return form::signed(call.body).map_err(|form::TooMany| TOO_MANY);
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

/// Shows the signature of these pieces to `look`.
fn made(secret: &Secret, hash: Hash, pieces: [&[u8]; 3], look: impl FnOnce(&[u8]) -> bool) -> bool {
    let mut context = secret.sign(hash);
    for piece in pieces {
        context.update(piece);
    }
    let mut written = [0; LONGEST];
    let length = STANDARD.encode_slice(context.sign(), &mut written);
    length.is_ok_and(|length| written.get(..length).is_some_and(look))
}

#[cfg(test)]
mod tests;
