//! `login`: a person agrees in a browser, and the refresh token is kept where the file says.
//!
//! With a browser on this machine the provider sends it back to an address on loopback, which listens
//! for that one answer; with `--device` the code is typed in anywhere. Nothing secret is printed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::say;
use crate::credential::login::{Asked, Login};
use crate::routes::compile;
use crate::telemetry::printable;

/// How long the person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long one connection may take.
const ONE: Duration = Duration::from_secs(5);
/// The longest request of a browser that is looked at, in bytes.
const LARGEST: usize = 16 * 1024;

/// Logs in to the credential of that name. The exit code: 0, 1 where the provider or the person said
/// no, 2 where the words or the file are wrong.
pub fn run(config: &Path, name: &str, device: bool, port: u16) -> u8 {
    let plan = match compile::load(config, &|name| std::env::var_os(name)) {
        Ok(plan) => plan,
        Err(problems) => {
            say::aside(&problems);
            return 2;
        }
    };
    let Some(credential) = plan.credentials.iter().find(|c| c.name == name) else {
        let known: Vec<&str> = plan.credentials.iter().map(|c| c.name.as_str()).collect();
        say::aside(format_args!(
            "trunkline login: no credential is called {name}; there are: {}",
            known.join(", ")
        ));
        return 2;
    };
    let Some(settings) = &credential.settings else {
        say::aside(format_args!(
            "trunkline login: {name} is not set; {} sets it",
            credential.set_by
        ));
        return 2;
    };
    let login = match Login::new(settings) {
        Ok(login) => login,
        Err(why) => {
            say::aside(format_args!("trunkline login: {name}: {why}"));
            return 2;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Err(why) => Err(why.to_string()),
        Ok(runtime) if device => runtime.block_on(by_device(&login)),
        Ok(runtime) => runtime.block_on(by_browser(&login, port)),
    };
    match done {
        Ok(()) => say::answer(&format!(
            "{name}: the refresh token is in {}; a running proxy takes it up by itself\n",
            login.file.display()
        )),
        Err(why) => {
            say::aside(format_args!("trunkline login: {name}: {why}"));
            1
        }
    }
}

async fn by_device(login: &Login) -> Result<(), String> {
    let device = login.device().await?;
    ask(&format!(
        "Open {}\nand type {}\n",
        device.verification_uri, device.user_code
    ))?;
    login.wait(&device).await
}

/// Asks the person, who cannot do what nobody could read.
fn ask(text: &str) -> Result<(), String> {
    let printed = say::print(&printable::lines(text));
    printed.map_err(|_| "nobody can be asked to agree".to_owned())
}

async fn by_browser(login: &Login, port: u16) -> Result<(), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.map_err(|e| format!("cannot listen on 127.0.0.1:{port}: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    // Some browsers take localhost for ::1 first; a machine without IPv6 does without.
    let other = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok();
    let asked = login.ask(&format!("http://localhost:{port}"))?;
    ask(&format!(
        "Open this address in a browser on this machine:\n{}\n",
        asked.url
    ))?;
    let waiting = come_back(&listener, other.as_ref(), &asked);
    let code = match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(code) => code?,
        Err(_) => return Err("nobody came back within ten minutes".to_owned()),
    };
    login.exchange(&asked, &code).await
}

/// The code with which the browser comes back; whatever else calls is told that it is wrong here.
async fn come_back(
    listener: &TcpListener,
    other: Option<&TcpListener>,
    asked: &Asked,
) -> Result<String, String> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            accepted = accept(other) => accepted,
        };
        let Ok((mut tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let served = tokio::time::timeout(ONE, serve(&mut tcp, asked)).await;
        if let Ok(Some(code)) = served {
            return code;
        }
    }
}

async fn accept(
    listener: Option<&TcpListener>,
) -> std::io::Result<(TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn serve(tcp: &mut TcpStream, asked: &Asked) -> Option<Result<String, String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < LARGEST {
        if tcp.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.lines().next().unwrap_or_default().split(' ');
    let target = match (words.next(), words.next()) {
        (Some("GET"), Some(target)) => target,
        _ => "",
    };
    let code = asked.code(target);
    let (status, text) = match &code {
        None => (
            "404 Not Found",
            "This is not the address that was asked for.",
        ),
        Some(Ok(_)) => (
            "200 OK",
            "Thank you. The rest happens in the terminal; this page can be closed.",
        ),
        Some(Err(_)) => (
            "200 OK",
            "It was refused. The terminal says more; this page can be closed.",
        ),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    tcp.write_all(answer.as_bytes()).await.ok();
    tcp.shutdown().await.ok();
    code
}
