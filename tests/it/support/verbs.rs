//! Runs a verb of the binary to its end and keeps what it printed. Used for everything that does not serve.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::proxy::{File, command};
use super::wait::{PATIENCE_WITH_A_PROCESS, within};

/// A verb that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Both streams, one after the other.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The problems that `check` printed, as `(line, column, what)`.
    pub fn problems(&self) -> Vec<(usize, usize, String)> {
        let located = |line: &str| {
            let (_, rest) = line.split_once("proxy.yaml:")?;
            let (row, rest) = rest.split_once(':')?;
            let (column, what) = rest.split_once(':')?;
            Some((
                row.parse().ok()?,
                column.parse().ok()?,
                what.trim().to_owned(),
            ))
        };
        self.text().lines().filter_map(located).collect()
    }
}

/// Runs `trunkline <arguments>` with `TRUNKLINE_CONFIG` set to `config`.
#[track_caller]
pub fn verb_in(config: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let streams = (Stdio::piped(), Stdio::piped());
    verb_saying(command(config, environment), arguments, streams)
}

/// Runs a verb whose output or errors go elsewhere; only what is piped is kept.
#[track_caller]
pub fn verb_saying(
    mut command: Command,
    arguments: &[&str],
    (stdout, stderr): (Stdio, Stdio),
) -> Ended {
    let mut child = command
        .args(arguments)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let stdout = std::thread::spawn(move || all_of(out));
    let stderr = std::thread::spawn(move || all_of(err));
    let status = within(
        PATIENCE_WITH_A_PROCESS,
        &format!("`trunkline {}` to end", arguments.join(" ")),
        || child.try_wait().unwrap(),
    );
    Ended {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn all_of(stream: Option<impl Read>) -> String {
    stream.map_or_else(String::new, |stream| {
        std::io::read_to_string(stream).unwrap()
    })
}

/// Runs a verb on this text.
#[track_caller]
pub fn verb(yaml: &str, arguments: &[&str]) -> Ended {
    verb_in(&File::write(yaml).path, arguments, &[])
}

/// `trunkline check` on this text.
#[track_caller]
pub fn check(yaml: &str) -> Ended {
    verb(yaml, &["check"])
}

/// The project's own folder, which holds the shipped files.
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A shipped file's text.
#[track_caller]
pub fn shipped(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
