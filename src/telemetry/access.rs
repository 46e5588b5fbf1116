//! The access log: one line an exchange, on standard output.
//!
//! Workers append to a buffer of their own and never wait; one thread writes. When nobody reads
//! the output the buffers stay bounded and lines are dropped and counted, as are those that it does
//! not take (its reader gone, its disk full). A line never holds a query, a body or a credential.

use super::printable;
use crate::clock::{self, Duration, SystemTime};
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A worker's buffer holds at most this much.
pub const BUFFER: usize = 4 << 20;
/// What a buffer keeps of its size when it was written, in bytes.
const SPARE: usize = 1 << 20;
/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Columns for people.
    Text,
    /// None.
    Off,
}

/// Who called.
#[derive(Clone, Copy)]
pub enum Caller<'a> {
    /// By an address that is quickly written.
    V4(Ipv4Addr),
    /// By something else: a network, or a hashed identity.
    Other(&'a dyn std::fmt::Display),
}

impl Caller<'_> {
    fn push(self, out: &mut String) {
        match self {
            Caller::Other(other) => {
                write!(out, "{other}").ok();
            }
            Caller::V4(address) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        out.push('.');
                    }
                    push_number(out, octet.into());
                }
            }
        }
    }
}

/// What one line says.
pub struct Line<'a> {
    /// When the answer ended.
    pub at: SystemTime,
    /// The correlation id.
    pub correlation_id: &'a str,
    /// Who called: an address or a hashed identity.
    pub client: Caller<'a>,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, as sent, without its query.
    pub path: &'a str,
    /// The route that matched.
    pub route: Option<&'a str>,
    /// The route's upstream.
    pub upstream: Option<&'a str>,
    /// The answer's status.
    pub status: u16,
    /// Who answered.
    pub source: &'static str,
    /// Why, where the answer is ours or was cut short.
    pub reason: Option<&'a str>,
    /// Attempts made at the upstream.
    pub attempts: u32,
    /// From arrival to the end of the answer.
    pub took: Duration,
    /// Bytes of the request's body that arrived.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: u64,
    /// The trace that the request belongs to (W3C Trace Context), if it names one.
    pub trace_id: Option<&'a str>,
    /// What a cache had to do with it, on a route that has one.
    pub cache: Option<&'static str>,
    /// Further fields, by name.
    pub extra: &'a [(&'static str, &'a str)],
}

impl Line<'_> {
    fn level(&self) -> &'static str {
        match self.status {
            500.. => "error",
            400.. => "warn",
            _ => "info",
        }
    }

    fn write_json(&self, out: &mut String) {
        out.push_str("{\"timestamp\":\"");
        clock::push_rfc3339(self.at, out);
        out.push_str("\",\"level\":\"");
        out.push_str(self.level());
        out.push_str("\",\"msg\":\"request\"");
        field(out, "correlation_id", self.correlation_id);
        out.push_str(",\"client\":\"");
        self.client.push(out);
        out.push('"');
        field(out, "method", self.method);
        field(out, "path", self.path);
        optional(out, "route", self.route);
        optional(out, "upstream", self.upstream);
        number(out, "status", self.status.into());
        field(out, "source", self.source);
        optional(out, "reason", self.reason);
        number(out, "attempts", self.attempts.into());
        out.push_str(",\"duration_ms\":");
        push_millis(out, self.took);
        number(out, "bytes_in", self.bytes_in);
        number(out, "bytes_out", self.bytes_out);
        optional(out, "trace_id", self.trace_id);
        if let Some(result) = self.cache {
            field(out, "cache", result);
        }
        for (name, value) in self.extra {
            field(out, name, value);
        }
        out.push_str("}\n");
    }

    fn write_text(&self, out: &mut String) {
        clock::push_rfc3339(self.at, out);
        write!(out, " {} {:>4} ", self.status, self.method).ok();
        printable::push(out, self.path);
        let place = self.upstream.or(self.route).unwrap_or("-");
        write!(out, "  {}:{place} ", self.source).ok();
        if let Some(reason) = self.reason {
            printable::push(out, reason);
            out.push(' ');
        }
        push_millis(out, self.took);
        out.push_str("ms ");
        self.client.push(out);
        writeln!(out, " {}", self.correlation_id).ok();
    }
}

fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":\"");
    push_escaped(out, value);
    out.push('"');
}

fn optional(out: &mut String, name: &str, value: Option<&str>) {
    match value {
        Some(value) => field(out, name, value),
        None => {
            write!(out, ",\"{name}\":null").ok();
        }
    }
}

fn number(out: &mut String, name: &str, value: u64) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    push_number(out, value);
}

/// Writes a number in decimal digits.
pub fn push_number(out: &mut String, mut value: u64) {
    let start = out.len();
    let mut digits = [0u8; 20];
    let mut used = 0;
    for slot in &mut digits {
        *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    debug_assert_eq!(start, out.len());
    out.extend(digits.iter().take(used).rev().map(|d| char::from(*d)));
}

fn push_millis(out: &mut String, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    out.push('.');
    for unit in [100, 10, 1] {
        push_number(out, micros % 1000 / unit % 10);
    }
}

/// RFC 8259 string escaping, also of what would steer a terminal; most values need none.
fn push_escaped(out: &mut String, value: &str) {
    let plain = |b: u8| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\';
    if value.bytes().all(plain) {
        out.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if printable::steers(c) => printable::push_json(out, c),
            c => out.push(c),
        }
    }
}

/// The writing end, shared by all workers.
pub struct AccessLog {
    buffers: Mutex<Vec<Arc<Mutex<String>>>>,
    spare: Mutex<String>,
    pending: Mutex<bool>,
    wake: Condvar,
    asleep: AtomicBool,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start() -> std::io::Result<Arc<AccessLog>> {
        let log = Arc::new(AccessLog {
            buffers: Mutex::default(),
            spare: Mutex::default(),
            pending: Mutex::new(false),
            wake: Condvar::new(),
            asleep: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let writer = Arc::clone(&log);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.write_for_ever())?;
        Ok(log)
    }

    /// A buffer for one worker.
    pub fn appender(self: &Arc<Self>) -> Appender {
        let buffer = Arc::new(Mutex::new(String::new()));
        self.lock_buffers().push(Arc::clone(&buffer));
        Appender {
            buffer,
            log: Arc::clone(self),
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes what has gathered, now; not for longer than that, where nobody takes it.
    pub fn flush_within(self: &Arc<Self>, most: Duration) {
        let (told, all) = std::sync::mpsc::sync_channel(1);
        let log = Arc::clone(self);
        let thread = std::thread::Builder::new().name("last-lines".to_owned());
        let flushing = thread.spawn(move || {
            log.flush();
            told.send(()).ok();
        });
        if flushing.is_ok() {
            all.recv_timeout(most).ok();
        }
    }

    fn flush(&self) {
        let buffers: Vec<_> = self.lock_buffers().clone();
        // Two buffers take turns, so that none grows from nothing again and again.
        let mut lines = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        for buffer in buffers {
            {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut *buffer, &mut *lines);
            }
            if !lines.is_empty() {
                self.dropped.fetch_add(write(lines.as_bytes()), Relaxed);
                lines.clear();
                lines.shrink_to(SPARE);
            }
        }
    }

    fn write_for_ever(&self) {
        loop {
            {
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                while !*pending {
                    self.asleep.store(true, Relaxed);
                    pending = self
                        .wake
                        .wait(pending)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                *pending = false;
                self.asleep.store(false, Relaxed);
            }
            self.gather();
            self.flush();
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a thread of its own, which serves nobody"
    )]
    fn gather(&self) {
        std::thread::sleep(GATHER);
    }

    fn notify(&self) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    fn lock_buffers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Mutex<String>>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes whole lines to standard output. The number of those that it did not take.
fn write(lines: &[u8]) -> u64 {
    let mut out = std::io::stdout().lock();
    let mut left = lines;
    while !left.is_empty() {
        match out.write(left) {
            Ok(taken) if taken > 0 => left = left.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    out.flush().ok();
    let lost = memchr::memchr_iter(b'\n', left).count();
    u64::try_from(lost).unwrap_or(u64::MAX)
}

/// One worker's end.
#[derive(Clone)]
pub struct Appender {
    buffer: Arc<Mutex<String>>,
    log: Arc<AccessLog>,
}

impl Appender {
    /// Adds a line.
    pub fn append(&self, format: Format, line: &Line<'_>) {
        let was_empty = {
            let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
            if buffer.len() > BUFFER {
                self.log.dropped.fetch_add(1, Relaxed);
                return;
            }
            let was_empty = buffer.is_empty();
            match format {
                Format::Json => line.write_json(&mut buffer),
                Format::Text => line.write_text(&mut buffer),
                Format::Off => return,
            }
            was_empty
        };
        if was_empty {
            self.log.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn line<'a>(path: &'a str, reason: Option<&'a str>) -> Line<'a> {
        Line {
            at: SystemTime::UNIX_EPOCH,
            correlation_id: "id-1",
            client: Caller::V4(Ipv4Addr::LOCALHOST),
            method: "GET",
            path,
            route: Some("twilio"),
            upstream: None,
            status: 503,
            source: "proxy",
            reason,
            attempts: 2,
            took: Duration::from_micros(12_034),
            bytes_in: 0,
            bytes_out: 1234,
            trace_id: None,
            cache: Some("hit"),
            extra: &[("twilio_request_id", "RQ1")],
        }
    }

    #[test]
    fn a_json_line_is_one_object_whatever_the_path_holds() {
        let mut out = String::new();
        line("/a\"b\\c\u{1}d", Some("circuit_open")).write_json(&mut out);
        assert!(out.ends_with("}\n") && out.matches('\n').count() == 1);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["path"], "/a\"b\\c\u{1}d");
        assert_eq!(value["status"], 503);
        assert_eq!(value["duration_ms"], 12.034);
        assert_eq!(value["upstream"], serde_json::Value::Null);
        assert_eq!(value["reason"], "circuit_open");
        assert_eq!(value["level"], "error");
        assert_eq!(value["twilio_request_id"], "RQ1");
        assert_eq!(value["cache"], "hit");
    }

    #[test]
    fn no_form_of_a_line_steers_a_terminal() {
        let path = "/a\u{9b}31m\u{85}\u{202e}\u{7f}é";
        let (mut text, mut json) = (String::new(), String::new());
        line(path, Some("x\u{9b}")).write_text(&mut text);
        line(path, Some("x\u{9b}")).write_json(&mut json);
        for written in [&text, &json] {
            let steering = written.trim_end().chars().find(|c| printable::steers(*c));
            assert_eq!(steering, None, "{written:?}");
        }
        let shown = "/a\\u{9b}31m\\u{85}\\u{202e}\\u{7f}é ";
        assert!(text.contains(shown), "{text}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["path"], path);
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for value in [0, 7, 10, 1234, u64::MAX] {
            let mut out = String::new();
            push_number(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }
}
