//! What a template may know: the variables and functions of one answer.
//!
//! `request.method`, `.path`, `.path_params` (as sent; `| urldecode` decodes), `.query` (decoded, the first value of a
//! name), `.query_all` (every value), `.headers` (lower-case names) and `.json` (none when there was no JSON); `now` and
//! `now_plus(seconds)` (RFC 3339, UTC); `uuid`, one value in all of an answer, and `uuid()`, a fresh one at each call.
//! No clock is read: the time is given. Fields that prove who is calling are left out, so that no canned answer can
//! hand a credential back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use minijinja::value::{Object, ObjectRepr, Serde};
use minijinja::{Error, ErrorKind, State, Value, context};
use percent_encoding::percent_decode_str;
use uuid::{NoContext, Timestamp, Uuid};

use super::StubRequest;

/// What `request` has, `json` apart.
pub(super) const REQUEST: [&str; 6] = [
    "method",
    "path",
    "path_params",
    "query",
    "query_all",
    "headers",
];
/// What there is besides `request`.
pub(super) const VARIABLES: [&str; 3] = ["now", "now_plus", "uuid"];
/// The last second of the year 9999, after which RFC 3339 has no way to write a date.
const LAST_SECOND: u64 = 253_402_300_799;

/// The variables of one answer.
pub(super) fn known(request: &StubRequest<'_>, now: SystemTime) -> Value {
    let path_params = request.path_params.iter();
    let path_params = Value::from_pairs(path_params.map(|(name, value)| (*name, *value)));
    let queries = queries(request.query.unwrap_or_default());
    let first =
        |(name, values): (&String, &Vec<String>)| Some((name.clone(), values.first()?.clone()));
    let query: BTreeMap<String, String> = queries.iter().filter_map(first).collect();
    context! {
        request => context! {
            method => request.method.as_str(),
            path => request.path,
            path_params => path_params,
            query => Value::from(Serde(query)),
            query_all => Value::from(Serde(queries)),
            headers => Value::from(Serde(headers(request))),
            json => Value::from(Serde(&request.json)),
        },
        now => rfc3339(now),
        now_plus => Value::from_function(move |seconds: i64| now_plus(now, seconds)),
        uuid => Value::from_object(AnswerId { now, id: mint(now) }),
    }
}

fn queries(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        all.entry(name.into_owned())
            .or_default()
            .push(value.into_owned());
    }
    all
}

/// The request's fields, repeated ones joined as RFC 9110 5.2 allows, without those that prove who is calling.
fn headers(request: &StubRequest<'_>) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in request.headers {
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        fields
            .entry(name.as_str().to_owned())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    fields
}

/// The filter that turns `%40` into `@`.
pub(super) fn urldecode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn now_plus(now: SystemTime, seconds: i64) -> Result<String, Error> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        now.checked_sub(distance)
    } else {
        now.checked_add(distance)
    };
    let writable = |time: &SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .is_ok_and(|since| since.as_secs() <= LAST_SECOND)
    };
    moved.filter(writable).map(rfc3339).ok_or_else(|| {
        let what = format!("now_plus({seconds}) leaves the years 1970 to 9999");
        Error::new(ErrorKind::InvalidOperation, what)
    })
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole seconds in UTC, `2026-11-22T20:57:47Z`; times before 1970 are taken as its first second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = since_1970(time).as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March here, so that the leap day is
/// the last of its year and the lengths of the months before it follow one line.
fn civil(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01; 146,097 days make 400 years.
    let days = days.saturating_add(719_468);
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let leap_days = day_of_cycle / 1460 + day_of_cycle / 146_096;
    let year_of_cycle = (day_of_cycle + day_of_cycle / 36_524 - leap_days) / 365;
    let first_day = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100;
    let day_of_year = day_of_cycle - first_day;
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let year = cycle * 400 + year_of_cycle;
    if month_from_march < 10 {
        (year, month_from_march + 3, day)
    } else {
        (year + 1, month_from_march - 9, day)
    }
}

/// A UUIDv7 of the given time: it sorts by time as the vendors' own ids do.
fn mint(now: SystemTime) -> String {
    let since = since_1970(now);
    let stamp = Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos());
    Uuid::new_v7(stamp).to_string()
}

/// `uuid` prints the answer's one id; `uuid()` mints another.
#[derive(Debug)]
struct AnswerId {
    now: SystemTime,
    id: String,
}

impl Object for AnswerId {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        if arguments.is_empty() {
            Ok(Value::from(mint(self.now)))
        } else {
            Err(Error::from(ErrorKind::TooManyArguments))
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_on_leap_days_and_at_the_ends_of_months() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
    }
}
