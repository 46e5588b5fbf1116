//! `credentials`: what is held for callers, by name and state, and never what it is.
//!
//! Asks the running proxy; where none runs, says what the file alone can tell.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::credential::Settings;
use crate::routes::compile;
use crate::routes::plan::Plan;

use super::remote::reachable;
use super::say;

const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the table. The exit code: 0, 1 where it could not be written, or 2 where the file cannot be used.
pub fn run(config: &Path) -> u8 {
    let plan = match compile::load(config, &|name| std::env::var_os(name)) {
        Ok(plan) => plan,
        Err(problems) => {
            say::aside(&problems);
            return 2;
        }
    };
    let running = ask(reachable(plan.process.admin.address));
    let rows = match &running {
        Some(list) => list.iter().map(row).collect(),
        None => by_file(&plan),
    };
    if running.is_none() {
        say::aside(format_args!(
            "no proxy answers on {}: this is the file alone",
            plan.process.admin.address
        ));
    }
    say::answer(&table(&rows))
}

const HEADS: [&str; 5] = ["NAME", "KIND", "STATE", "EXPIRES", "NOTE"];

fn row(shown: &Value) -> [String; 5] {
    let text = |key: &str| {
        shown
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("-")
            .to_owned()
    };
    let note = ["last_error", "set_by"].map(&text);
    let note = note.into_iter().find(|note| note != "-");
    [
        text("name"),
        text("kind"),
        text("state"),
        text("expires_at"),
        note.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn by_file(plan: &Plan) -> Vec<[String; 5]> {
    let dash = || "-".to_owned();
    let each = plan
        .credentials
        .iter()
        .map(|credential| match &credential.settings {
            None => [
                credential.name.clone(),
                dash(),
                "not set".to_owned(),
                dash(),
                format!("{} sets it", credential.set_by),
            ],
            Some(settings) => {
                let Settings { kind, .. } = settings.as_ref();
                [
                    credential.name.clone(),
                    kind.name().to_owned(),
                    "set".to_owned(),
                    dash(),
                    dash(),
                ]
            }
        });
    each.collect()
}

fn table(rows: &[[String; 5]]) -> String {
    let heads = [HEADS.map(str::to_owned)];
    let all = || heads.iter().chain(rows);
    let mut widths = [0; 5];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in all() {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What the running proxy says, if one answers.
fn ask(address: SocketAddr) -> Option<Vec<Value>> {
    let mut tcp = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    tcp.set_read_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("GET /api/v1/credentials HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let list: Value = serde_json::from_str(body).ok()?;
    head.starts_with("HTTP/1.1 200")
        .then(|| list.as_array().cloned())?
}
