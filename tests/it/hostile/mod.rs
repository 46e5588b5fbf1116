//! The hostile wire, as tables: one row a case, raw bytes in, exact bytes or none at the origin. Every failing row of a
//! table is reported at once. The rows are grouped by what they attack: the framing of a request (`framing`), its line,
//! target and Host (`targets`), its connection fields (`hop_by_hop`), bodies behind answers of our own (`unread`), the
//! upstream's answers (`answers`), those that break off (`cut`), `Expect` (`expect`) and the translation from HTTP/2
//! (`h2`).

mod answers;
mod cut;
mod expect;
mod framing;
mod h2;
mod hop_by_hop;
mod targets;
mod unread;

use std::fmt::Write as _;
use std::time::Duration;

use crate::support::*;

/// How long a row waits for a connection that ought to be closed.
const SHORT: Duration = Duration::from_secs(3);

/// What a row allows.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// One of these statuses or no answer at all, the connection ends, and not a byte reaches the origin.
    Refused(&'static [u16]),
    /// Exactly one request at the origin, with this target and body.
    Once(&'static str, &'static str),
    /// The same, and the connection ends after its answer.
    OnceThenClosed(&'static str, &'static str),
    /// Either refused with 400, or read once in this way.
    RefusedOrOnce(&'static str, &'static str),
    /// Either refused with 400, or read once in this way with the connection ending after it.
    RefusedOrOnceThenClosed(&'static str, &'static str),
    /// The origin may see its beginning, but never a whole request; the connection ends.
    NeverWhole,
}

const BAD: Expect = Expect::Refused(&[400]);

/// One case: its name, the bytes that go in, what may come of it.
struct Row(&'static str, String, Expect);

/// Sends every row to one proxy, one after the other, and fails with all rows that broke their promise.
#[track_caller]
fn run(rows: Vec<Row>) {
    let upstream = Upstream::script([reply(200).body("ok")]);
    let proxy = Proxy::start(straight_to(&upstream));
    let mut failures = String::new();
    for Row(label, text, expect) in rows {
        if let Err(reason) = one(&upstream, &proxy, &text, expect) {
            let _ = writeln!(failures, "* {label}: {reason}\n    sent: {text:?}");
        }
    }
    assert!(
        failures.is_empty(),
        "rows that broke their promise:\n{failures}"
    );
}

/// What came of one row's bytes.
struct Seen {
    /// The statuses of all answers.
    statuses: Vec<u16>,
    closed: bool,
    arrived: Vec<Received>,
}

fn one(upstream: &Upstream, proxy: &Proxy, text: &str, expect: Expect) -> Result<(), String> {
    let before = upstream.count();
    let mut client = proxy.connect();
    client.patience(SHORT);
    client.write(bytes_of(text));
    let statuses: Vec<u16> = client
        .try_read("GET")
        .into_iter()
        .map(|answer| answer.status)
        .collect();
    let closed = if wants_end(expect) || statuses.is_empty() {
        client.closed()
    } else {
        false
    };
    let more = client
        .seen()
        .matches("HTTP/1.1 ")
        .count()
        .saturating_sub(statuses.len());
    drop(client);
    // Whatever the row left behind has time to arrive while another exchange makes the whole way.
    let mark = proxy.get("/mark");
    if mark.status != 200 {
        return Err(format!(
            "the next exchange was answered with {}: {}",
            mark.status,
            mark.text()
        ));
    }
    let arrived = upstream.requests().split_off(before);
    let arrived: Vec<Received> = arrived
        .into_iter()
        .filter(|received| received.target != "/mark")
        .collect();
    let seen = Seen {
        statuses,
        closed,
        arrived,
    };
    if more > 0 {
        return Err(format!(
            "{} answers to one request",
            more + seen.statuses.len()
        ));
    }
    judge(&seen, expect).map_err(|reason| {
        format!(
            "{reason} (answers {:?}, closed {closed}, origin {})",
            seen.statuses,
            shown(&seen)
        )
    })
}

fn shown(seen: &Seen) -> String {
    let heads = seen
        .arrived
        .iter()
        .map(|received| format!("{:?} + {:?}", received.head, received.text()));
    format!("[{}]", heads.collect::<Vec<_>>().join("; "))
}

fn wants_end(expect: Expect) -> bool {
    !matches!(expect, Expect::Once(..) | Expect::RefusedOrOnce(..))
}

fn judge(seen: &Seen, expect: Expect) -> Result<(), String> {
    seen.arrived.iter().try_for_each(sound)?;
    match expect {
        Expect::Refused(statuses) => refused(seen, statuses),
        Expect::Once(target, body) => once(seen, target, body),
        Expect::OnceThenClosed(target, body) => once(seen, target, body).and_then(|()| ended(seen)),
        Expect::RefusedOrOnce(target, body) => {
            refused_openly(seen).or_else(|_| once(seen, target, body))
        }
        Expect::RefusedOrOnceThenClosed(target, body) => {
            refused(seen, &[400]).or_else(|_| once(seen, target, body).and_then(|()| ended(seen)))
        }
        Expect::NeverWhole => {
            let whole = seen.arrived.iter().any(|received| received.complete);
            if whole {
                Err("a whole request at the origin".to_owned())
            } else {
                ended(seen)
            }
        }
    }
}

fn refused(seen: &Seen, statuses: &[u16]) -> Result<(), String> {
    if !seen.arrived.is_empty() {
        return Err("something reached the origin".to_owned());
    }
    match seen.statuses.first() {
        Some(status) if !statuses.contains(status) => Err(format!("not refused with {statuses:?}")),
        _ => ended(seen),
    }
}

/// Refused, whether or not the connection was seen to end.
fn refused_openly(seen: &Seen) -> Result<(), String> {
    let status = seen.statuses.first().is_none_or(|status| *status == 400);
    if status && seen.arrived.is_empty() {
        Ok(())
    } else {
        Err("neither refused nor read once".to_owned())
    }
}

fn once(seen: &Seen, target: &str, body: &str) -> Result<(), String> {
    let [received] = seen.arrived.as_slice() else {
        return Err(format!(
            "{} requests at the origin instead of one",
            seen.arrived.len()
        ));
    };
    if seen.statuses != [200] {
        return Err("not answered with 200".to_owned());
    }
    if received.target != target || received.text() != body || !received.complete {
        return Err(format!("read otherwise than as {target} with {body:?}"));
    }
    Ok(())
}

fn ended(seen: &Seen) -> Result<(), String> {
    if seen.closed {
        Ok(())
    } else {
        Err("the connection was left open".to_owned())
    }
}

/// What holds for every request that reaches an origin, whatever came in.
fn sound(received: &Received) -> Result<(), String> {
    let lone = received.head.replace("\r\n", "");
    let codings = received.fields.all("transfer-encoding");
    let lengths = received.fields.all("content-length");
    let rules = [
        (
            "a control byte in its head",
            lone.chars()
                .any(|letter| letter.is_control() && letter != '\t'),
        ),
        (
            "not exactly one Host",
            received.fields.all("host").len() != 1,
        ),
        ("two framings", !codings.is_empty() && !lengths.is_empty()),
        ("several lengths", lengths.len() > 1),
        (
            "a coding other than chunked",
            codings.len() > 1 || codings.iter().any(|coding| *coding != "chunked"),
        ),
        (
            "a name with a space",
            received
                .fields
                .0
                .iter()
                .any(|(name, _)| name.contains([' ', '\t']) || name.is_empty()),
        ),
    ];
    match rules.into_iter().find(|(_, broken)| *broken) {
        Some((rule, _)) => Err(format!("the origin got {rule}")),
        None => Ok(()),
    }
}

/// One byte a character, so that a row can hold any byte.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| u8::try_from(u32::from(letter)).unwrap())
        .collect()
}

/// A `POST /row` with these field lines and this body.
fn post_with(fields: &str, body: &str) -> String {
    format!("POST /row HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{body}")
}

/// A `GET /row` with these field lines.
fn get_with(fields: &str) -> String {
    format!("GET /row HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}
