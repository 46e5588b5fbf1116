//! `healthcheck`: asks a running proxy whether it is ready, for images that hold no other client.

use super::remote::{reachable, said};
use super::say;
use crate::routes::compile;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// Exit code 0 if `/readyz` answers 200, 1 if not, 2 if the file does not say where to ask.
pub fn run(config: &Path) -> u8 {
    let plan = match compile::load(config, &|name| std::env::var_os(name)) {
        Ok(plan) => plan,
        Err(problems) => {
            say::aside(&problems);
            return 2;
        }
    };
    let address = reachable(plan.process.admin.address);
    match ask(address) {
        Ok(head) if head.starts_with("HTTP/1.1 200") => 0,
        Ok(head) => {
            say::aside(format_args!(
                "not ready: {}",
                head.lines().next().unwrap_or_default()
            ));
            1
        }
        Err(e) => {
            say::aside(format_args!(
                "no answer from {address}: {}",
                said(&e, PATIENCE)
            ));
            1
        }
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.write_all(
        format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)?;
    Ok(answer)
}
