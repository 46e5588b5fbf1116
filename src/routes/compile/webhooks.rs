//! By whose signature a route's requests are known: its secrets are opened, its public address is read.

use crate::clock::{self, Duration};
use crate::config::At;
use crate::config::schema::{self, Replay, ReplayBy, Verify, VerifyTwilio};
use crate::config::units::{Dur, Secret, Size, Text};
use crate::routes::plan::Timeouts;
use crate::webhook::{By, Check, PublicUrl, Replays, Secrets, Twilio, Unusable, Vendor, Written};

use secrecy::SecretString;

use super::limits::in_words;
use super::notes::Notes;
use super::vapis;

/// Bodies up to this are held unless the file says otherwise, in bytes.
const LARGEST: u64 = 1 << 20;
/// And larger ones than this never, since each is held whole.
const LARGEST_OF_ALL: u64 = 64 << 20;
/// So much earlier than its vendor gives up does a route: the answer still has to get there.
const AHEAD: Duration = Duration::from_secs(1);

/// How long an answered event is known unless the file says otherwise,
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// and at the most.
const KNOWN_AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// The check of a `verify` block.
pub(super) fn compile(notes: &mut Notes<'_>, at: &At, written: &Verify) -> Option<Check> {
    let largest = written.max_body.map_or(LARGEST, Size::get);
    if !(1..=LARGEST_OF_ALL).contains(&largest) {
        let what = "bodies are held whole while they are checked: from 1 byte to 64MiB each";
        notes.problem(&at.key("max_body"), what, "1MiB is usual");
    }
    let vendor = match (&written.twilio, &written.vapi) {
        (Some(twilio), None) => Vendor::Twilio(self::twilio(notes, &at.key("twilio"), twilio)?),
        (None, Some(vapi)) => Vendor::Vapi(vapis::compile(notes, &at.key("vapi"), vapi)?),
        (Some(_), Some(_)) => {
            let what = "a route takes the requests of one vendor";
            notes.problem(&at.key("vapi"), what, "give each vendor a route of its own");
            return None;
        }
        (None, None) => {
            let hint = "add `twilio: { public_url: ..., auth_token_file: ... }` or `vapi: { secret_file: ... }`";
            if !notes.is_unread(&at.key("vapi")) {
                notes.absent(at, "twilio", "`verify` names no vendor", hint);
            }
            return None;
        }
    };
    let replays = replays(notes, &at.key("replay"), (&written.replay, &vendor));
    Some(Check {
        vendor,
        largest,
        replays,
    })
}

/// How events are known again; none if the window is zero.
fn replays(
    notes: &mut Notes<'_>,
    at: &At,
    (written, vendor): (&Replay, &Vendor),
) -> Option<Replays> {
    let window = written.window.map_or(KNOWN_FOR, Dur::get);
    if window > KNOWN_AT_MOST {
        let what = "answered events are held in memory, for 24h at the most";
        notes.problem(
            &at.key("window"),
            what,
            "10m is usual; 0s switches this off",
        );
    }
    if written.by.is_some() && matches!(vendor, Vendor::Vapi(_)) {
        let what = "Vapi sends no token that `by` could choose to leave out of account";
        notes.problem(&at.key("by"), what, "remove `by`");
    }
    let by = match written.by {
        None | Some(ReplayBy::Token) => By::Token,
        Some(ReplayBy::Signature) => By::Signature,
    };
    (!window.is_zero()).then_some(Replays { window, by })
}

fn twilio(notes: &mut Notes<'_>, at: &At, written: &VerifyTwilio) -> Option<Twilio> {
    let url = public_url(notes, at, written.public_url.as_ref());
    let sources = Sources {
        given: ("secrets", &written.secrets),
        files: ("auth_token_file", &written.auth_token_file),
        whose: VENDORS,
    };
    let secrets = secrets(notes, at, &sources, Written::Plain);
    let (url, secrets) = (url?, secrets?);
    Some(Twilio { url, secrets })
}

pub(super) fn public_url(
    notes: &mut Notes<'_>,
    at: &At,
    written: Option<&Text>,
) -> Option<PublicUrl> {
    let key = "public_url";
    let Some(text) = written else {
        let what =
            "signatures are over the address that the vendor calls, and no `public_url` says it";
        notes.absent(at, key, what, "add `public_url: https://my.example.com`");
        return None;
    };
    public_address(notes, &at.key(key), text)
}

/// An address under which somebody else knows us.
pub(super) fn public_address(notes: &mut Notes<'_>, at: &At, text: &Text) -> Option<PublicUrl> {
    PublicUrl::parse(text)
        .map_err(|why| {
            let what = format!("this is not a public address: {why}");
            notes.problem(at, what, "write it like https://my.example.com");
        })
        .ok()
}

/// Where secrets come from: the name of the key, and what it says.
pub(super) struct Sources<'a> {
    pub(super) given: (&'static str, &'a [Secret]),
    pub(super) files: (&'static str, &'a [Text]),
    /// What to give.
    pub(super) whose: &'static str,
}

/// Secrets that somebody else has made.
pub(super) const VENDORS: &str = "give the vendor's own secret";

pub(super) fn secrets(
    notes: &mut Notes<'_>,
    at: &At,
    sources: &Sources<'_>,
    written: Written,
) -> Option<Secrets> {
    let ((given_key, given), (file_key, files)) = (sources.given, sources.files);
    if given.is_empty() && files.is_empty() {
        if !notes.is_unread(&at.key(given_key)) {
            let hint = format!("add `{file_key}: /run/secrets/...`, or `{given_key}: [...]`");
            notes.absent(at, file_key, "there is no secret for signatures", &hint);
        }
        return None;
    }
    let given: Vec<SecretString> = given.iter().map(|s| s.expose().into()).collect();
    let paths = files.iter().map(|file| notes.path(file)).collect();
    let unusable = match Secrets::open(&given, paths, written, clock::now()) {
        Ok(secrets) => return Some(secrets),
        Err(unusable) => unusable,
    };
    match unusable {
        Unusable::Given(index, why) => {
            let what = format!("this secret cannot be used: {why}");
            notes.problem(&at.key(given_key).index(index), what, sources.whose);
        }
        Unusable::File(index, why) => {
            let key = at.key(file_key);
            let at = if notes.source().is_list(&key) {
                key.index(index)
            } else {
                key
            };
            let shown = notes.source().shown(&at);
            let what = format!("the secret file {shown} cannot be used: {why}");
            notes.problem(
                &at,
                what,
                "one secret a line; paths are relative to the directory of this file",
            );
        }
    }
    None
}

/// The waits of a route whose vendor does not wait long: what its answer would come too late for is
/// given up before.
pub(super) fn timeouts(
    notes: &mut Notes<'_>,
    route: &At,
    (own, all): (&schema::Timeouts, Timeouts),
    check: &Check,
) -> Timeouts {
    let most = check.vendor_waits();
    if own.total.is_some() {
        if all.total >= most {
            let what = format!(
                "the vendor waits {} at most, and then nobody reads the answer",
                in_words(most)
            );
            let at = route.key("timeouts").key("total");
            notes.warn(&at, what, "leave `total` out for a second less than that");
        }
        return all;
    }
    Timeouts {
        total: all.total.min(most.saturating_sub(AHEAD)),
        ..all
    }
}
