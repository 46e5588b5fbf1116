//! What the verbs say: the one thing asked for on standard output, all else on standard error.
//!
//! Nothing here can panic, whatever has become of the two streams: the standard macros would end a
//! proxy that serves when the reader of its log is gone. Clippy keeps them out of the rest.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use crate::telemetry::{logging, printable};

/// Says something on standard error, as a line of its own. It may be lost.
pub(super) fn aside(text: impl Display) {
    let mut text = printable::lines(&text.to_string());
    text.push('\n');
    logging::say(text.as_bytes());
}

/// Prints what was asked for. The exit code: 0, or 1 where it could not be written.
pub(super) fn answer(text: &str) -> u8 {
    match print(&printable::lines(text)) {
        Ok(()) => 0,
        Err(code) => code,
    }
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// The exit code where nothing more can be written: 0 for a reader that went away, which has what it wanted.
pub(super) fn print(text: &str) -> Result<(), u8> {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| code(&error))
}

/// The exit code for a write to standard output that failed, which is told.
pub(super) fn code(error: &io::Error) -> u8 {
    if error.kind() == ErrorKind::BrokenPipe {
        return 0;
    }
    aside(format_args!(
        "trunkline: cannot write to standard output: {error}"
    ));
    1
}
