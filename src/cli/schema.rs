//! `schema`: the JSON Schema of the file, for editors and for checks without this program.

use super::say;
use crate::config;

/// Prints the schema. The exit code: 0, or 1 where it could not be written.
pub fn run() -> u8 {
    say::answer(&config::json_schema())
}
