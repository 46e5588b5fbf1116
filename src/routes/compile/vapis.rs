//! How Vapi's mark is made on a route: a secret in a field, or the options of its HMAC credential.

use http::{HeaderName, header};

use crate::clock::Duration;
use crate::config::At;
use crate::config::schema::{HmacAlgorithm, HmacEncoding, VerifyHmac, VerifyVapi};
use crate::config::units::Text;
use crate::webhook::vapi::{Mark, Piece, Plan};
use crate::webhook::{Hash, Vapi, Written};

use super::breakers::positive;
use super::notes::Notes;
use super::webhooks::{Sources, VENDORS, public_url, secrets};

/// How far from now a signature's time may be, unless the file says otherwise.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The check of a `vapi` block.
pub(super) fn compile(notes: &mut Notes<'_>, at: &At, written: &VerifyVapi) -> Option<Vapi> {
    let hmac = written.hmac.as_ref();
    let base64 = hmac.and_then(|hmac| hmac.secret_is_base64);
    let form = match base64.is_some_and(|flag| flag.get()) {
        true => Written::Base64,
        false => Written::Plain,
    };
    let sources = Sources {
        given: ("secrets", &written.secrets),
        files: ("secret_file", &written.secret_file),
        whose: VENDORS,
    };
    let secrets = secrets(notes, at, &sources, form);
    let bearer = written.bearer.is_some_and(|flag| flag.get());
    let mark = match hmac {
        Some(hmac) => {
            if written.header.is_some() || bearer {
                let what = "with `hmac` the secret itself is in no field";
                notes.problem(
                    &at.key("hmac"),
                    what,
                    "remove `header` and `bearer`, or `hmac`",
                );
            }
            Mark::Hmac(Box::new(plan(notes, &at.key("hmac"), hmac)?))
        }
        None => {
            let field = name(notes, &at.key("header"), written.header.as_ref());
            match bearer {
                true => Mark::Bearer(field.unwrap_or(header::AUTHORIZATION)),
                false => Mark::Secret(field.unwrap_or(HeaderName::from_static("x-vapi-secret"))),
            }
        }
    };
    let secrets = secrets?;
    Some(Vapi { mark, secrets })
}

fn plan(notes: &mut Notes<'_>, at: &At, written: &VerifyHmac) -> Option<Plan> {
    let timed = written.include_timestamp.is_none_or(|flag| flag.get());
    let most = positive(notes, &at.key("tolerance"), written.tolerance);
    let time = name(
        notes,
        &at.key("timestamp_header"),
        written.timestamp_header.as_ref(),
    );
    let time = time.unwrap_or(HeaderName::from_static("x-timestamp"));
    let text = text(notes, at, (written, timed))?;
    let has = |piece: &Piece| text.contains(piece);
    if has(&Piece::MessageId) && written.message_id_header.is_none() {
        let hint = "add `message_id_header: svix-id`";
        notes.absent(
            at,
            "message_id_header",
            "no field is named that holds `{svix-id}`",
            hint,
        );
    }
    let url = match has(&Piece::Url) {
        true => Some(public_url(notes, at, written.public_url.as_ref())?),
        false => None,
    };
    let signature = name(
        notes,
        &at.key("signature_header"),
        written.signature_header.as_ref(),
    );
    let prefix = written
        .signature_prefix
        .as_ref()
        .map_or("", |text| text.as_str());
    let message_id = name(
        notes,
        &at.key("message_id_header"),
        written.message_id_header.as_ref(),
    );
    Some(Plan {
        hash: match written.algorithm {
            None | Some(HmacAlgorithm::Sha256) => Hash::Sha256,
            Some(HmacAlgorithm::Sha512) => Hash::Sha512,
            Some(HmacAlgorithm::Sha1) => Hash::Sha1,
        },
        signature: signature.unwrap_or(HeaderName::from_static("x-signature")),
        prefix: prefix.to_owned(),
        time: timed.then(|| (time, most.unwrap_or(TOLERANCE))),
        message_id,
        text,
        base64: written.signature_encoding == Some(HmacEncoding::Base64),
        url,
    })
}

/// What is signed: the body in any case, and the time where there is one.
fn text(
    notes: &mut Notes<'_>,
    at: &At,
    (written, timed): (&VerifyHmac, bool),
) -> Option<Vec<Piece>> {
    let usual = if timed {
        "{timestamp}.{body}"
    } else {
        "{body}"
    };
    let format = written
        .payload_format
        .as_ref()
        .map_or(usual, |text| text.as_str());
    let at = at.key("payload_format");
    let pieces = match Piece::read(format) {
        Ok(pieces) => pieces,
        Err(why) => {
            let hint = "there are {body}, {timestamp}, {method}, {url} and {svix-id}";
            notes.problem(&at, why, hint);
            return None;
        }
    };
    if !pieces.contains(&Piece::Body) {
        let what =
            "this signature would cover no body, so that anyone who saw one could send another";
        notes.problem(&at, what, "add `{body}`");
    }
    if timed != pieces.contains(&Piece::Timestamp) {
        let what = "`include_timestamp` and `{timestamp}` do not agree";
        notes.problem(
            &at,
            what,
            "a time that is not signed proves nothing: give both, or neither",
        );
    }
    Some(pieces)
}

fn name(notes: &mut Notes<'_>, at: &At, written: Option<&Text>) -> Option<HeaderName> {
    let written = written?;
    HeaderName::from_bytes(written.as_bytes())
        .map_err(|_| {
            let what = format!("{} is not a header name", notes.source().shown(at));
            notes.problem(at, what, "x-signature is usual");
        })
        .ok()
}
