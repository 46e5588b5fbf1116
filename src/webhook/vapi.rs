//! Vapi's marks, as its credentials make them: a secret in a field, or an HMAC with a time in it.
//!
//! An HMAC is over a text that the operator spells out with placeholders, since Vapi lets its users do
//! so. A signature with a time is believed for a while only. Every comparison is of the whole mark.

use super::event::Event;
use super::public_url::PublicUrl;
use super::secret::{Hash, Secret, Secrets};
use super::{ASSISTANT_TIME, Call, Denied, Told, hex, is_equal, single};
use crate::clock::{Duration, Instant, SystemTime};
use crate::policy::scheme::credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;

const NO_MARK: Denied = Denied("it carries no secret or signature of Vapi's, or more than one");
const WRONG_SECRET: Denied = Denied("its secret is not one of this route's");
const WRONG: Denied = Denied(
    "its signature does not fit: it was not made with a secret of this route over the text that \
     payload_format describes, or the request was changed on its way",
);
const NO_TIME: Denied = Denied("it carries no time that can be read, which its signature covers");
const TOO_OLD: Denied = Denied("its signature was made too long ago, or in the future");

/// What tells Vapi's requests from anybody's.
pub struct Vapi {
    /// How the mark is made.
    pub mark: Mark,
    /// The secrets that it may be made with.
    pub secrets: Secrets,
}

/// How a mark is made.
pub enum Mark {
    /// The secret itself in this field,
    Secret(HeaderName),
    /// or as a Bearer token in this one.
    Bearer(HeaderName),
    /// A signature.
    Hmac(Box<Plan>),
}

/// How a signature is made: the options of Vapi's HMAC credential.
pub struct Plan {
    /// The hash.
    pub hash: Hash,
    /// The field that holds the signature,
    pub signature: HeaderName,
    /// behind this text.
    pub prefix: String,
    /// The field that holds the time, and how far from now it may be.
    pub time: Option<(HeaderName, Duration)>,
    /// The field that holds the message's id.
    pub message_id: Option<HeaderName>,
    /// What is signed.
    pub text: Vec<Piece>,
    /// Whether the signature is written in base64, not in hex.
    pub base64: bool,
    /// Where Vapi believes the application to be, where the address is signed.
    pub url: Option<PublicUrl>,
}

/// A piece of the text that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    Body,
    Timestamp,
    Method,
    Url,
    MessageId,
}

impl Piece {
    /// Reads a format such as `{timestamp}.{body}`.
    ///
    /// # Errors
    /// The placeholder that is none.
    pub fn read(format: &str) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        let mut left = format;
        while let Some((before, rest)) = left.split_once('{') {
            let (name, after) = rest.split_once('}').ok_or("a brace is not closed")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(match name {
                "body" => Piece::Body,
                "timestamp" => Piece::Timestamp,
                "method" => Piece::Method,
                "url" => Piece::Url,
                "svix-id" => Piece::MessageId,
                other => return Err(format!("there is no placeholder `{{{other}}}`")),
            });
            left = after;
        }
        if !left.is_empty() {
            pieces.push(Piece::Text(left.to_owned()));
        }
        Ok(pieces)
    }
}

impl Vapi {
    /// Whether the head has what a marked request must have.
    pub(super) fn glance(&self, fields: &HeaderMap) -> Result<(), Denied> {
        self.mark(fields).map(|_| ())
    }

    /// What is checked, for people.
    pub(super) fn words(&self) -> String {
        match &self.mark {
            Mark::Secret(field) | Mark::Bearer(field) => format!("Vapi's secret in {field}"),
            Mark::Hmac(plan) => {
                let age = plan.time.as_ref();
                let age = age.map(|(field, most)| format!(", at most {most:?} from {field}"));
                format!(
                    "Vapi's signature in {}{}",
                    plan.signature,
                    age.unwrap_or_default()
                )
            }
        }
    }

    /// What a verified request tells of. A server message says when it was made, and is the same however
    /// often it is signed; of anything else a signature with a time in it speaks.
    pub(super) fn told<'a>(&self, call: &Call<'a>, known: bool) -> Told<'a> {
        let message = message(call.body);
        let urgent = message.as_ref().is_some_and(Message::asks_for_assistant);
        let event = || match (&message, &self.mark) {
            _ if call.websocket => None,
            (Some(message), _) if message.timestamp.is_some() => {
                Some(event([b"message", call.body]))
            }
            (_, Mark::Hmac(plan)) if plan.time.is_some() => {
                Some(event([b"signature", self.mark(call.fields).ok()?]))
            }
            _ => None,
        };
        Told {
            time: urgent.then_some(ASSISTANT_TIME),
            event: known.then(event).flatten(),
        }
    }

    fn mark<'f>(&self, fields: &'f HeaderMap) -> Result<&'f [u8], Denied> {
        let mark = match &self.mark {
            Mark::Secret(field) => single(fields, field),
            Mark::Bearer(field) => {
                single(fields, field).and_then(|sent| credentials(sent, "Bearer"))
            }
            Mark::Hmac(plan) => single(fields, &plan.signature)
                .and_then(|mark| mark.strip_prefix(plan.prefix.as_bytes())),
        };
        mark.ok_or(NO_MARK)
    }

    /// Whether the mark fits.
    pub(super) fn verify(&self, call: &Call<'_>, now: (Instant, SystemTime)) -> Result<(), Denied> {
        let mark = self.mark(call.fields)?;
        let mut fits = false;
        match &self.mark {
            Mark::Secret(_) | Mark::Bearer(_) => {
                self.secrets
                    .each(now.0, |secret| fits |= is_equal(secret.bytes(), mark));
                if fits { Ok(()) } else { Err(WRONG_SECRET) }
            }
            Mark::Hmac(plan) => {
                let time = plan.time.as_ref();
                let time = time.map(|(field, _)| single(call.fields, field).ok_or(NO_TIME));
                let time = time.transpose()?;
                self.secrets.each(now.0, |secret| {
                    fits |= plan.fits(secret, call, (time, mark))
                });
                if !fits {
                    return Err(WRONG);
                }
                plan.is_timely(time, now.1)
            }
        }
    }
}

impl Plan {
    fn fits(&self, secret: &Secret, call: &Call<'_>, (time, mark): (Option<&[u8]>, &[u8])) -> bool {
        let mut context = secret.sign(self.hash);
        for piece in &self.text {
            match piece {
                Piece::Text(text) => context.update(text.as_bytes()),
                Piece::Body => context.update(call.body),
                Piece::Timestamp => context.update(time.unwrap_or_default()),
                Piece::Method => context.update(call.method.as_str().as_bytes()),
                Piece::Url => {
                    let url = self.url.as_ref().map(|url| url.of(call.target));
                    context.update(url.unwrap_or_default().as_bytes());
                }
                Piece::MessageId => {
                    let id = self.message_id.as_ref();
                    let id = id.and_then(|field| single(call.fields, field));
                    context.update(id.unwrap_or_default());
                }
            }
        }
        let made = context.sign();
        let made = match self.base64 {
            true => STANDARD.encode(made),
            false => hex(made.as_ref()),
        };
        is_equal(made.as_bytes(), mark)
    }

    fn is_timely(&self, time: Option<&[u8]>, now: SystemTime) -> Result<(), Denied> {
        let (Some(time), Some((_, most))) = (time, &self.time) else {
            return Ok(());
        };
        let time = std::str::from_utf8(time)
            .ok()
            .and_then(|time| time.parse::<u64>().ok());
        let time = time.ok_or(NO_TIME)?;
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        // Seconds will have twelve digits in thirty thousand years, milliseconds have thirteen.
        let made = match time {
            0..=99_999_999_999 => Duration::from_secs(time),
            milliseconds => Duration::from_millis(milliseconds),
        };
        if since.abs_diff(made) <= *most {
            Ok(())
        } else {
            Err(TOO_OLD)
        }
    }
}

/// An event of these parts. Vapi names no delivery, so that each may be a retry.
fn event<'a>(parts: [&'a [u8]; 2]) -> Event<'a> {
    Event {
        parts,
        delivery: b"",
        unnamed: None,
        may_be_retry: true,
    }
}

/// A server message, as far as it is looked at.
#[derive(Deserialize)]
struct Report<'b> {
    #[serde(borrow)]
    message: Message<'b>,
}

#[derive(Deserialize)]
struct Message<'b> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'b, str>,
    timestamp: Option<IgnoredAny>,
}

impl Message<'_> {
    /// Whether it asks for an assistant, which Vapi waits for less long than for anything.
    fn asks_for_assistant(&self) -> bool {
        self.kind == "assistant-request"
    }
}

/// The server message that a body is, if it is one. Parsed once: it may hold a whole conversation.
fn message(body: &[u8]) -> Option<Message<'_>> {
    let report = serde_json::from_slice::<Report<'_>>(body).ok()?;
    Some(report.message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;
    use crate::webhook::Written;
    use aws_lc_rs::hmac;
    use http::{HeaderValue, Method};
    use secrecy::SecretString;

    const NOW: u64 = 1_764_000_000;

    fn vapi(mark: Mark, secrets: &[&str]) -> Vapi {
        let given: Vec<_> = secrets.iter().map(|s| SecretString::from(*s)).collect();
        let secrets = Secrets::open(&given, Vec::new(), Written::Plain, Instant::now()).unwrap();
        Vapi { mark, secrets }
    }

    fn plan(format: &str) -> Plan {
        Plan {
            hash: Hash::Sha256,
            signature: HeaderName::from_static("x-signature"),
            prefix: "sha256=".to_owned(),
            time: Some((
                HeaderName::from_static("x-timestamp"),
                Duration::from_secs(300),
            )),
            message_id: Some(HeaderName::from_static("svix-id")),
            text: Piece::read(format).unwrap(),
            base64: false,
            url: PublicUrl::parse("https://my.example.com").ok(),
        }
    }

    fn verify(vapi: &Vapi, fields: &[(&'static str, &str)], body: &[u8]) -> Result<(), Denied> {
        let mut all = HeaderMap::new();
        for (name, value) in fields {
            all.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let call = Call {
            method: &Method::POST,
            target: "/vapi?x=1",
            fields: &all,
            websocket: false,
            body,
        };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        vapi.verify(&call, (Instant::now(), wall))
    }

    fn sign(text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        format!("sha256={}", hex(hmac::sign(&key, text.as_bytes()).as_ref()))
    }

    #[test]
    fn a_secret_or_a_bearer_token_is_known_in_its_field() {
        let field = HeaderName::from_static("x-vapi-secret");
        let secret = vapi(Mark::Secret(field), &["one", "two"]);
        assert_eq!(verify(&secret, &[("x-vapi-secret", "two")], b""), Ok(()));
        assert_eq!(
            verify(&secret, &[("x-vapi-secret", "tw")], b""),
            Err(WRONG_SECRET)
        );
        assert_eq!(verify(&secret, &[], b""), Err(NO_MARK));
        let twice = [("x-vapi-secret", "two"), ("x-vapi-secret", "two")];
        assert_eq!(verify(&secret, &twice, b""), Err(NO_MARK));
        let field = HeaderName::from_static("authorization");
        let bearer = vapi(Mark::Bearer(field), &["one"]);
        for good in ["Bearer one", "bearer one", "BEARER  one"] {
            let sent = [("authorization", good)];
            assert_eq!(verify(&bearer, &sent, b""), Ok(()), "{good}");
        }
        for bad in ["one", "Bearerone", "Basic one", "Bearer "] {
            let sent = [("authorization", bad)];
            assert_eq!(verify(&bearer, &sent, b""), Err(NO_MARK), "{bad}");
        }
    }

    #[test]
    fn a_signature_covers_what_the_format_names_and_its_time() {
        let all = "{svix-id}.{timestamp}.{method} {url}:{body}";
        let vapi = vapi(Mark::Hmac(Box::new(plan(all))), &["secret"]);
        let time = NOW.to_string();
        let text = format!("m1.{time}.POST https://my.example.com/vapi?x=1:{{}}");
        let signed = sign(&text);
        let good = [
            ("x-signature", signed.as_str()),
            ("x-timestamp", &time),
            ("svix-id", "m1"),
        ];
        assert_eq!(verify(&vapi, &good, b"{}"), Ok(()));
        assert_eq!(verify(&vapi, &good, b"{ }"), Err(WRONG));
        let other = [
            ("x-signature", signed.as_str()),
            ("x-timestamp", &time),
            ("svix-id", "m2"),
        ];
        assert_eq!(verify(&vapi, &other, b"{}"), Err(WRONG));
        let bare = [("x-signature", signed.as_str()), ("svix-id", "m1")];
        assert_eq!(verify(&vapi, &bare, b"{}"), Err(NO_TIME));
        let unprefixed = [("x-signature", signed.trim_start_matches("sha256="))];
        assert_eq!(verify(&vapi, &unprefixed, b"{}"), Err(NO_MARK));
    }

    #[test]
    fn a_signature_is_believed_for_a_while() {
        let vapi = vapi(
            Mark::Hmac(Box::new(plan("{timestamp}.{body}"))),
            &["secret"],
        );
        let outcome = |time: &str| {
            let signed = sign(&format!("{time}.x"));
            verify(
                &vapi,
                &[("x-signature", &signed), ("x-timestamp", time)],
                b"x",
            )
        };
        for time in [NOW - 300, NOW + 300, NOW * 1000 - 1, NOW * 1000 + 299_000] {
            assert_eq!(outcome(&time.to_string()), Ok(()), "{time}");
        }
        for time in [NOW - 301, NOW + 301, 0, (NOW - 301) * 1000, u64::MAX] {
            assert_eq!(outcome(&time.to_string()), Err(TOO_OLD), "{time}");
        }
        assert_eq!(outcome("now"), Err(NO_TIME));
    }

    #[test]
    fn a_format_with_an_unknown_placeholder_is_none() {
        assert_eq!(Piece::read("{timestamp}.{body}").unwrap().len(), 3);
        assert!(Piece::read("{time}").is_err() && Piece::read("{body").is_err());
    }

    #[test]
    fn the_message_that_cannot_wait_is_known() {
        for (body, is) in [
            (
                r#"{"message":{"call":{"type":"x"},"type":"assistant-request"}}"#,
                true,
            ),
            (r#"{"message":{"type":"assistant\u002drequest"}}"#, true),
            (
                r#"{"message":{"type":"end-of-call-report"},"type":"assistant-request"}"#,
                false,
            ),
            (r#"{"type":"assistant-request"}"#, false),
            ("assistant-request", false),
        ] {
            let asks = message(body.as_bytes()).is_some_and(|message| message.asks_for_assistant());
            assert_eq!(asks, is, "{body}");
        }
    }
}
