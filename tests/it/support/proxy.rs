//! The real binary, started on a file that the test wrote, and everything that it says: its answers, its metrics, its
//! log. `@NAME@` in the file becomes an address of its own; a file that names no `@LISTEN@` or `@ADMIN@` gets a
//! listener and an admin listener. Killed when dropped.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, Request, get};
use super::stream::Stream;
use super::upstream::free_address;
use super::wait::{PATIENCE_WITH_A_PROCESS, until, until_some, within};
use super::wire::Response;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_trunkline");

type Lines = Arc<Mutex<Vec<String>>>;

/// A file on disk with its addresses filled in.
pub struct File {
    directory: TempDir,
    pub path: PathBuf,
    addresses: HashMap<String, SocketAddr>,
}

impl File {
    /// Writes `yaml` as `proxy.yaml` into a directory of its own.
    pub fn write(yaml: &str) -> Self {
        let mut text = yaml.to_owned();
        if !text.contains("@LISTEN@") {
            text.push_str("\nlisten:\n  - { name: app, address: \"@LISTEN@\" }\n");
        }
        if !text.contains("@ADMIN@") {
            text.push_str("\nadmin: { address: \"@ADMIN@\" }\n");
        }
        if !text.contains("access_log:") {
            text.push_str("\naccess_log: { format: json }\n");
        }
        let mut addresses = HashMap::new();
        for name in ["LISTEN", "SECOND", "ADMIN", "METRICS"] {
            let address = free_address();
            text = text.replace(&format!("@{name}@"), &address.to_string());
            addresses.insert(name.to_owned(), address);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy.yaml");
        std::fs::write(&path, text).unwrap();
        Self {
            directory,
            path,
            addresses,
        }
    }

    /// The address that stands for `@name@`.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    /// Puts another file beside `proxy.yaml`.
    pub fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The command with nothing of this machine's environment but the path.
pub fn command(config: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("TRUNKLINE_CONFIG", config);
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null());
    command
}

/// A running proxy.
pub struct Proxy {
    child: Child,
    file: File,
    stdout: Lines,
    stderr: Lines,
}

impl Proxy {
    /// Starts the binary on this file and waits until it is ready.
    #[track_caller]
    pub fn start(yaml: impl AsRef<str>) -> Self {
        Self::with_env(yaml, &[])
    }

    /// The same, with these environment variables.
    #[track_caller]
    pub fn with_env(yaml: impl AsRef<str>, environment: &[(&str, &str)]) -> Self {
        Self::on(File::write(yaml.as_ref()), environment)
    }

    /// The same, on a file that the test has prepared.
    #[track_caller]
    pub fn on(file: File, environment: &[(&str, &str)]) -> Self {
        Self::saying(file, environment, (Stdio::piped(), Stdio::piped()))
    }

    /// The same, with its output and its log to go elsewhere; only what is piped is kept.
    #[track_caller]
    pub fn saying(
        file: File,
        environment: &[(&str, &str)],
        (stdout, stderr): (Stdio, Stdio),
    ) -> Self {
        let mut command = command(&file.path, environment);
        command.arg("run").stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(follow).unwrap_or_default();
        let stderr = child.stderr.take().map(follow).unwrap_or_default();
        let mut proxy = Self {
            child,
            file,
            stdout,
            stderr,
        };
        proxy.wait_until_ready();
        proxy
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let admin = self.admin();
        let ready = || {
            let answer = Client::try_connect(admin).ok().and_then(|mut client| {
                client.start(&get("/readyz"));
                client.try_read("GET")
            });
            answer.is_some_and(|answer| answer.status == 200)
        };
        within(
            PATIENCE_WITH_A_PROCESS,
            "the proxy to be ready, or to exit",
            || (ready() || self.exited().is_some()).then_some(()),
        );
        if let Some(status) = self.exited() {
            until("the last words", || Arc::strong_count(&self.stderr) == 1);
            panic!(
                "the proxy exited with {status}:\n{}\n{}",
                self.stderr(),
                self.log().join("\n")
            );
        }
    }

    /// The application's listener.
    pub fn address(&self) -> SocketAddr {
        self.file.addresses["LISTEN"]
    }

    pub fn admin(&self) -> SocketAddr {
        self.file.addresses["ADMIN"]
    }

    /// The address that stands for `@name@` in the file.
    pub fn named_address(&self, name: &str) -> SocketAddr {
        self.file.addresses[name]
    }

    pub fn config(&self) -> &Path {
        &self.file.path
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Sends one request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.connect().send(request)
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&get(target))
    }

    /// The same, where the proxy may also end the connection without an answer.
    #[track_caller]
    pub fn try_get(&self, target: &str) -> Option<Response> {
        let mut client = self.connect();
        client.start(&get(target));
        client.try_read("GET")
    }

    /// Listens to a stream of the admin listener.
    #[track_caller]
    pub fn listen(&self, path: &str) -> Stream {
        Stream::open(self.admin(), path, None)
    }

    /// The same, from after event `heard`.
    #[track_caller]
    pub fn listen_after(&self, path: &str, heard: u64) -> Stream {
        Stream::open(self.admin(), path, Some(heard))
    }

    /// Asks the admin listener.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        Client::connect(self.admin()).send(request)
    }

    /// Writes bytes as they are, then reads until the proxy closes the connection.
    #[track_caller]
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect();
        client.write(bytes);
        String::from_utf8_lossy(&client.drain().0).into_owned()
    }

    /// Every series of `/metrics` with its value.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let answer = self.ask(&get("/metrics"));
        assert_eq!(answer.status, 200);
        Metrics::parse(&answer.text())
    }

    /// Has the file read again, and waits until that went well.
    #[track_caller]
    pub fn reload(&self) {
        let reloads = || {
            let labels = [("result", "success")];
            let metrics = self.metrics();
            metrics.value("trunkline_config_reloads_total", &labels)
        };
        let before = reloads();
        self.signal("HUP");
        until("a reload", || reloads() > before);
    }

    /// Waits until `circuit_breaker_state{service}` has this value: 0 closed, 1 half-open, 2 open.
    #[track_caller]
    pub fn wait_for_breaker(&self, service: &str, state: f64) {
        let labels = [("service", service)];
        until(&format!("breaker {service} in state {state}"), || {
            self.metrics().value("circuit_breaker_state", &labels) == Some(state)
        });
    }

    /// Everything on standard output, line by line.
    pub fn log(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    /// The access log: the lines that describe an exchange.
    pub fn log_lines(&self) -> Vec<Value> {
        let parsed = self
            .log()
            .into_iter()
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed
            .filter(|line| line.get("method").is_some() && line.get("status").is_some())
            .collect()
    }

    /// Waits for the access line of a path.
    #[track_caller]
    pub fn wait_for_line(&self, path: &str) -> Value {
        until_some(&format!("an access line for {path}"), || {
            self.log_lines()
                .into_iter()
                .find(|line| line["path"] == path)
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, e.g. `TERM`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(status.success(), "sending {name}");
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        within(PATIENCE_WITH_A_PROCESS, "the proxy to exit", || {
            self.child.try_wait().unwrap()
        })
    }

    /// Asks it to stop and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_exit()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "--- standard error of the proxy\n{}\n--- its log\n{}",
                self.stderr(),
                self.log().join("\n")
            );
        }
    }
}

fn follow(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            kept.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&line).into_owned());
        }
    });
    lines
}

/// The text exposition format, parsed.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Name and sorted labels, with the value.
    pub series: BTreeMap<(String, BTreeMap<String, String>), f64>,
    pub text: String,
}

impl Metrics {
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| {
            let (left, value) = line
                .rsplit_once(' ')
                .unwrap_or_else(|| panic!("a metric line: {line:?}"));
            let (name, labels) = left.split_once('{').unwrap_or((left, ""));
            let labels = labels
                .trim_end_matches('}')
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""));
            let labels = labels
                .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
            ((name.to_owned(), labels.collect()), value.parse().unwrap())
        });
        Self {
            series: series.collect(),
            text: text.to_owned(),
        }
    }

    /// The sum over every series of `name` that carries at least these labels; `None` when there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |own: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(name, value)| own.get(*name).is_some_and(|other| other == value))
        };
        let values = self
            .series
            .iter()
            .filter(|((other, own), _)| other == name && fits(own));
        values
            .map(|(_, value)| *value)
            .reduce(|sum, value| sum + value)
    }

    /// The label names of every series of `name`.
    pub fn label_names(&self, name: &str) -> Vec<Vec<&str>> {
        let same = self.series.keys().filter(|(other, _)| other == name);
        same.map(|(_, labels)| labels.keys().map(String::as_str).collect())
            .collect()
    }
}
