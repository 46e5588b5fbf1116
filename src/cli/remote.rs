//! A running proxy, asked through its operator's listener: for the verbs that look or change something.
//!
//! Address and token come from the same file that the proxy was started with. One short exchange
//! each; nothing is kept.

use super::say;
use crate::routes::compile;
use crate::routes::plan::Process;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Where a running proxy is asked.
pub(super) struct Remote {
    address: SocketAddr,
    token_file: Option<PathBuf>,
}

/// What it answered.
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// The body, null where it is no JSON.
    pub(super) body: Value,
}

impl Answer {
    /// The sentence of a refusal.
    pub(super) fn detail(&self) -> String {
        match self.body.get("detail").and_then(Value::as_str) {
            Some(detail) => detail.to_owned(),
            None => format!("it answered {}", self.status),
        }
    }
}

impl Remote {
    /// Where the proxy of that file is asked. Says what is wrong with the file, and then gives
    /// nothing.
    pub(super) fn of_file(config: &Path) -> Option<Remote> {
        match compile::load(config, &|name| std::env::var_os(name)) {
            Ok(plan) => Some(Remote::of(&plan.process)),
            Err(problems) => {
                say::aside(&problems);
                None
            }
        }
    }

    fn of(process: &Process) -> Remote {
        Remote {
            address: reachable(process.admin.address),
            token_file: process.admin.token_file.clone(),
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// A sentence that says why there is no answer.
    pub(super) fn get(&self, path: &str) -> Result<Answer, String> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\n"), "")
    }

    /// Writes, with the token where one is configured.
    ///
    /// # Errors
    /// A sentence that says why there is no answer.
    pub(super) fn write(&self, method: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Type: application/json\r\n");
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file)
                .map_err(|e| format!("cannot read admin.token_file {}: {e}", file.display()))?;
            head.push_str(&format!("Authorization: Bearer {}\r\n", token.trim()));
        }
        self.exchange(&head, &body.to_string())
    }

    fn exchange(&self, head: &str, body: &str) -> Result<Answer, String> {
        let answer = self.try_exchange(head, body).map_err(|e| {
            let (address, why) = (self.address, said(&e, PATIENCE));
            format!("no answer from {address}: {why}; is the proxy of this file running?")
        })?;
        read(&answer).ok_or_else(|| format!("{} does not speak HTTP", self.address))
    }

    fn try_exchange(&self, head: &str, body: &str) -> std::io::Result<Vec<u8>> {
        let mut tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let length = body.len();
        let request = format!(
            "{head}Host: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.address
        );
        tcp.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        tcp.take(LARGEST).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Why there was no answer, where none was waited for longer than `patience`: the system says of a read that ran
/// out of time that a resource is unavailable.
pub(super) fn said(error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("it said nothing within {} s", patience.as_secs())
        }
        _ => error.to_string(),
    }
}

/// An unspecified address is reached on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn read(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = serde_json::from_str(body).unwrap_or_default();
    Some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_answer_is_read_and_its_sentence_found() {
        let raw = b"HTTP/1.1 404 Not Found\r\nX: y\r\n\r\n{\"detail\":\"there is none\"}\n";
        let answer = read(raw).unwrap();
        assert_eq!(
            (answer.status, answer.detail().as_str()),
            (404, "there is none")
        );
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\n\r\nready").unwrap().body,
            Value::Null
        );
        assert!(read(b"SSH-2.0-OpenSSH\r\n").is_none());
    }
}
