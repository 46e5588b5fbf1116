//! A script that the store runs: one step that nobody comes between, by the store's own clock.

use super::link::Link;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use std::fmt::Write as _;

/// A script and the name under which the store keeps it.
pub struct Script {
    text: &'static str,
    name: String,
}

impl Script {
    /// A script that is named when it is first run.
    pub fn new(text: &'static str) -> Script {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut name = String::with_capacity(40);
        for byte in digest.as_ref() {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Script { text, name }
    }

    /// Runs it by its text the first time on a link, so that one answer is waited for; later by its name, and by its
    /// text where the store has forgotten it.
    pub(super) async fn run(&self, link: &Link, call: &Call) -> RedisResult<Value> {
        if link.knows(&self.name) {
            match link.send(&call.command("EVALSHA", &self.name)).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {}
                answer => return answer,
            }
        }
        let answer = link.send(&call.command("EVAL", self.text)).await?;
        link.learn(&self.name);
        Ok(answer)
    }
}

/// The keys and the words of one run.
#[derive(Default)]
pub struct Call {
    keys: Vec<String>,
    words: Vec<Vec<u8>>,
}

impl Call {
    /// On these keys, in order.
    pub fn on(keys: impl IntoIterator<Item = String>) -> Call {
        Call {
            keys: keys.into_iter().collect(),
            words: Vec::new(),
        }
    }

    /// With one word more.
    #[must_use]
    pub fn word(mut self, word: impl Into<Vec<u8>>) -> Call {
        self.words.push(word.into());
        self
    }

    /// With one number more.
    #[must_use]
    pub fn number(self, number: u64) -> Call {
        self.word(number.to_string())
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(self.keys.len());
        command.arg(&self.keys);
        for word in &self.words {
            command.arg(word.as_slice());
        }
        command
    }
}

/// The items of an answer that is a list.
pub fn items(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// An answer that is a number.
pub fn number(answer: Option<&Value>) -> Option<u64> {
    match answer? {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// An answer that is text.
pub fn text(answer: Option<&Value>) -> Option<&str> {
    match answer? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
