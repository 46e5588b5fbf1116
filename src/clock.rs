//! The only reader of time.
//!
//! Everything else is handed an [`Instant`] or asks here, so that policies stay pure and tests can
//! move time. Monotonic time decides; wall time is for showing and for the vendors' dates only, so
//! that a step of the system clock changes no decision.

use std::cell::RefCell;

pub use std::time::{Duration, Instant, SystemTime};

/// Monotonic now. Follows the runtime's clock when a test pauses it.
#[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock now: for timestamps that people and vendors read.
#[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// `at` as RFC 3339 in UTC with milliseconds, such as `2026-01-31T08:15:30.250Z`.
pub fn rfc3339(at: SystemTime) -> String {
    let mut out = String::with_capacity(24);
    push_rfc3339(at, &mut out);
    out
}

/// Appends `at` as RFC 3339 in UTC with milliseconds. The text of a second is kept for the next call.
pub fn push_rfc3339(at: SystemTime, out: &mut String) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            text.clear();
            push_second(*second, text);
        }
        out.push_str(text);
    });
    out.push('.');
    push_digits(out, u64::from(since.subsec_millis()), 3);
    out.push('Z');
}

/// `2026-01-31T08:15:30` of a count of seconds since 1970-01-01.
fn push_second(second: u64, out: &mut String) {
    let (year, month, day) = civil(second / 86_400);
    let of_day = second % 86_400;
    push_digits(out, year, 4);
    for (mark, value) in [
        ('-', month),
        ('-', day),
        ('T', of_day / 3600),
        (':', of_day / 60 % 60),
        (':', of_day % 60),
    ] {
        out.push(mark);
        push_digits(out, value, 2);
    }
}

fn push_digits(out: &mut String, value: u64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10u64.pow(place) % 10;
        out.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Ties monotonic instants to the wall clock for showing: `shown(at)` is the wall time of `at`.
pub fn shown(at: Instant) -> SystemTime {
    let (mono, wall) = (now(), wall());
    if at <= mono {
        wall.checked_sub(mono - at).unwrap_or(wall)
    } else {
        wall.checked_add(at - mono).unwrap_or(wall)
    }
}

/// Seconds in words, as coarse as a glance needs: `12 s`, `4 min 12 s`, `3 h 5 min`, `2 d 1 h`.
pub fn lasting(seconds: u64) -> String {
    let (large, small, names) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => (seconds / 60, seconds % 60, ("min", "s")),
        3600..86_400 => (seconds / 3600, seconds % 3600 / 60, ("h", "min")),
        _ => (seconds / 86_400, seconds % 86_400 / 3600, ("d", "h")),
    };
    match small {
        0 => format!("{large} {}", names.0),
        _ => format!("{large} {} {small} {}", names.0, names.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_said_as_a_person_would() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (252, "4 min 12 s"),
            (11_100, "3 h 5 min"),
            (176_400, "2 d 1 h"),
        ] {
            assert_eq!(lasting(seconds), words);
        }
    }

    #[test]
    fn wall_time_is_shown_as_rfc_3339() {
        let at =
            |s, ms| SystemTime::UNIX_EPOCH + Duration::from_secs(s) + Duration::from_millis(ms);
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(at(951_782_400, 7)), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(at(1_795_305_599, 999)), "2026-11-21T23:59:59.999Z");
    }
}
