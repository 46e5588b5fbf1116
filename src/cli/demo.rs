//! `demo`: the whole story on one machine, with no account and no network.
//!
//! Stand-ins for Vapi and Twilio, the real proxy in front of them and a small load, all in this one
//! process and on loopback. The story is told in the terminal from what the proxy says of itself, and
//! can be followed on its page.

mod caller;
mod load;
mod stand_in;
mod story;

use super::run;
use super::say;
use crate::clock;
use crate::routes::compile;
use anyhow::Context as _;
use stand_in::StandIn;
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use story::Story;

/// How the story is told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Go on with the load when the story is over.
    pub keep: bool,
    /// So many times as fast.
    pub speed: f64,
}

/// Tells it. The exit code: 0, 1 where something did not happen as it should, 2 for a speed that
/// cannot be.
pub fn run(options: Options) -> u8 {
    if !(0.2..=20.0).contains(&options.speed) {
        say::aside(format_args!("trunkline demo: --speed is from 0.2 to 20"));
        return 2;
    }
    match tell(options) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(e) => {
            say::aside(format_args!("trunkline demo: {e:#}"));
            1
        }
    }
}

fn tell(options: Options) -> anyhow::Result<bool> {
    let vapi = bound().context("cannot listen on loopback")?;
    let twilio = bound()?;
    let folder = Folder::new()?;
    let file = folder.0.join("proxy.yaml");
    let places = Places {
        app: free()?,
        admin: free()?,
        vapi: vapi.local_addr()?,
        twilio: twilio.local_addr()?,
    };
    std::fs::write(&file, places.file(options.speed)).context("cannot write the demo's file")?;
    let plan = compile::load(&file, &|_| None).map_err(|e| anyhow::anyhow!("{e}"))?;
    let ended = Cell::new(None);
    let story = async {
        let stand_ins = [StandIn::new(), StandIn::new()];
        let [first, second] = &stand_ins;
        let open = |socket| tokio::net::TcpListener::from_std(socket);
        let (Ok(vapi), Ok(twilio)) = (open(vapi), open(twilio)) else {
            return;
        };
        let story = Story::new(places.clone(), options, Arc::clone(first), &file);
        tokio::select! {
            () = Arc::clone(first).serve(vapi) => {}
            () = Arc::clone(second).serve(twilio) => {}
            told = story.tell() => ended.set(Some(told)),
        }
    };
    run::serve(&file, plan, clock::wall(), story)?;
    match ended.take() {
        Some(Err(why)) => {
            say::aside(format_args!("trunkline demo: {why}"));
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// A folder for the demo's file, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let name = format!("trunkline-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).context("cannot make a folder for the demo's file")?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn bound() -> std::io::Result<TcpListener> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An address that is free now; the proxy binds it a moment later.
fn free() -> std::io::Result<SocketAddr> {
    bound()?.local_addr()
}

/// Who listens where.
#[derive(Debug, Clone)]
struct Places {
    app: SocketAddr,
    admin: SocketAddr,
    vapi: SocketAddr,
    twilio: SocketAddr,
}

impl Places {
    /// The file that the proxy runs on.
    fn file(&self, speed: f64) -> String {
        let recovery = (story::RECOVERY * 1000.0 / speed).round();
        format!(
            "\
environment: development
listen: [{{ name: app, address: \"{app}\" }}]
admin: {{ address: \"{admin}\" }}
access_log: {{ format: off }}
drain: {{ grace: 2s, quiet: 100ms }}
clients: {{ identify_by: [header:X-Client-ID, ip] }}
stubs: {{ enabled: false }}
rate_limits:
  per_client: {{ requests: 600, per: 1m, burst: {burst} }}
defaults:
  breaker: {{ failure_threshold: 3, recovery_timeout: {recovery}ms, success_threshold: 2 }}
  duplicate_window: 60s
upstreams:
  vapi: {{ url: \"http://{vapi}\", profile: vapi }}
  twilio: {{ url: \"http://{twilio}\", profile: twilio }}
routes:
  - name: twilio
    match: {{ path: \"/twilio/{{*rest}}\" }}
    upstream: twilio
    rewrite: \"/{{rest}}\"
    rate_limit: per_client
  - name: vapi
    match: {{ path: \"/vapi/{{*rest}}\" }}
    upstream: vapi
    rewrite: \"/{{rest}}\"
    rate_limit: per_client
  - name: calendar
    match: {{ path: /calendar/events, methods: [GET] }}
    rate_limit: per_client
    stub: {{ status: 200, json: {{ items: [] }} }}
",
            app = self.app,
            admin = self.admin,
            vapi = self.vapi,
            twilio = self.twilio,
            burst = story::BURST,
        )
    }
}

/// How the file is named where a person has to type it.
fn shown(file: &Path) -> String {
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_demos_file_has_no_problem_at_any_speed() {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let places = Places {
            app: at(1),
            admin: at(2),
            vapi: at(3),
            twilio: at(4),
        };
        for speed in [0.2, 1.0, 7.0, 20.0] {
            let file = places.file(speed);
            let plan = compile::parse("f.yaml", &file, &|_| None).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(plan.routes.len(), 3);
        }
    }

    #[test]
    fn a_speed_that_cannot_be_is_a_wrong_word() {
        for speed in [0.0, 21.0, f64::NAN] {
            assert_eq!(run(Options { keep: false, speed }), 2, "{speed}");
        }
    }
}
