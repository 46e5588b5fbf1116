//! The process's own log, on standard error: what it decided and what went wrong.
//!
//! JSON lines, or text on a terminal. `RUST_LOG` sets the level. Requests have their own line on
//! standard output, so that the two can be told apart and shipped apart. A log that nobody takes any
//! more (its reader gone or hanging, its disk full) is lost, and nothing else is: while the process serves, a
//! thread of its own writes, and nobody waits for it but the end, which does not for long.

use super::printable;
use crate::clock::{self, Duration};
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait to be written; more are lost.
const MOST: usize = 4_096;
/// How long the end waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
const A_MOMENT: Duration = Duration::from_millis(5);

/// What goes to the thread that writes.
enum Said {
    Line(Vec<u8>),
    /// Everything before has been said.
    All(SyncSender<()>),
}

static WRITER: OnceLock<SyncSender<Said>> = OnceLock::new();

/// From now on a thread of its own writes. Called once, by the verb that serves.
///
/// # Errors
/// The thread could not be started.
pub fn never_wait() -> io::Result<()> {
    let (sender, receiver) = sync_channel(MOST);
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(move || write_all(&receiver))?;
    WRITER.get_or_init(|| sender);
    Ok(())
}

fn write_all(said: &Receiver<Said>) {
    while let Ok(said) = said.recv() {
        match said {
            Said::Line(line) => drop(io::stderr().write_all(&line)),
            Said::All(told) => drop(told.send(())),
        }
    }
}

/// Waits until what was logged has been written, though not for a reader that hangs.
pub fn flush() {
    let Some(writer) = WRITER.get() else {
        return;
    };
    let end = clock::now() + LAST_LINES;
    let (told, all) = sync_channel(1);
    let mut last = Said::All(told);
    // There may be no place for it yet.
    while let Err(TrySendError::Full(back)) = writer.try_send(last) {
        if clock::now() >= end {
            return;
        }
        last = back;
        all.recv_timeout(A_MOMENT).ok();
    }
    all.recv_timeout(end.saturating_duration_since(clock::now()))
        .ok();
}

/// Writes a line for people or machines, in the order of all that is said; nobody waits for who reads it while the
/// process serves. What cannot be written is lost.
pub fn say(line: &[u8]) {
    match WRITER.get() {
        Some(writer) => drop(writer.try_send(Said::Line(line.to_vec()))),
        None => drop(io::stderr().write_all(line)),
    }
}

/// Starts logging at that level, where `RUST_LOG` does not say another. Called once, by the verb.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let shown: fn(&str) -> String = match io::stderr().is_terminal() {
        true => printable::coloured,
        false => printable::json,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(move || Lossy { shown });
    // A second start changes nothing.
    if io::stderr().is_terminal() {
        builder.with_target(false).finish().try_init().ok();
    } else {
        builder.json().flatten_event(true).finish().try_init().ok();
    }
}

/// Standard error, as far as it takes what is written. A line that does not arrive is lost and nobody is told: told
/// by the subscriber, it would be written to standard error once more, by a macro that panics.
struct Lossy {
    /// How a line is written that holds what would steer a terminal.
    shown: fn(&str) -> String,
}

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let odd = |text: &&str| text.contains(printable::steers);
        let shown = std::str::from_utf8(line).ok().filter(odd).map(self.shown);
        let written = shown.as_ref().map_or(line, String::as_bytes);
        say(written);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
