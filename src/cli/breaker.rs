//! `breaker`: holds a circuit open or closed for a while, or gives it back, on a running proxy.
//!
//! The proxy decides whether it may; this only asks, and says what came of it.

use super::remote::Remote;
use super::say;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::path::Path;

/// What is to be done with a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Act {
    /// Refuse every call at once.
    Open,
    /// Let every call through, whatever comes back.
    Close,
    /// End an override now.
    Auto,
}

/// Asks for it. The exit code: 0 done, 1 the proxy did not answer or may not, 2 the words are wrong.
pub fn run(config: &Path, act: Act, name: &str, lasts: Option<&str>, reason: &str) -> u8 {
    let Some(remote) = Remote::of_file(config) else {
        return 2;
    };
    let state = match act {
        Act::Open => "open",
        Act::Close => "closed",
        Act::Auto => "auto",
    };
    let mut body = json!({"state": state, "reason": reason});
    if let (Some(lasts), Some(members)) = (lasts, body.as_object_mut()) {
        members.insert("for".to_owned(), lasts.into());
    }
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    match remote.write("PUT", &format!("/api/v1/breakers/{encoded}"), &body) {
        Ok(answer) if answer.status == 200 => {
            say::answer(&format!("{}\n", said(name, &answer.body)))
        }
        Ok(answer) => {
            say::aside(format_args!("trunkline breaker: {}", answer.detail()));
            if matches!(answer.status, 400 | 404) {
                2
            } else {
                1
            }
        }
        Err(why) => {
            say::aside(format_args!("trunkline breaker: {why}"));
            1
        }
    }
}

fn said(name: &str, breaker: &Value) -> String {
    let word = |path: &str| breaker.pointer(path).and_then(Value::as_str);
    match (word("/override/state"), word("/override/until")) {
        (Some(state), Some(until)) => {
            let reason = word("/override/reason").filter(|reason| !reason.is_empty());
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            format!("{name} is held {state} until {until}{reason}")
        }
        _ => format!("{name} is automatic, and {}", word("/state").unwrap_or("?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_with_its_end() {
        let held =
            json!({"state": "open", "override": {"state": "open", "until": "T", "reason": "why"}});
        assert_eq!(said("vapi", &held), "vapi is held open until T: why");
        let free = json!({"state": "half-open", "override": null});
        assert_eq!(said("vapi", &free), "vapi is automatic, and half-open");
    }
}
