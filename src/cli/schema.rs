//! `schema`: the JSON Schema of the file, for editors and for checks without this program.

use std::io::Write as _;

use crate::config;

/// Prints the schema. The exit code is 0.
pub fn run() -> u8 {
    // A reader that went away has what it wanted.
    let _ = std::io::stdout().write_all(config::json_schema().as_bytes());
    0
}
