//! The process's own log, on standard error: what it decided and what went wrong.
//!
//! JSON lines, or text on a terminal. `RUST_LOG` sets the level. Requests have their own line on
//! standard output, so that the two can be told apart and shipped apart. A log that nobody takes any
//! more (its reader gone, its disk full) is lost, and nothing else is. A reader that hangs with its
//! pipe full makes the thread wait that has something to say.

use super::printable;
use std::io::{self, IsTerminal as _, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

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
        io::stderr().write_all(written).ok();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
