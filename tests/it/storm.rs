//! An outage is not made worse: while an upstream is down, repeats stay within a fifth of the requests and a floor of
//! three a second, and whoever looks at the metrics or the log sees each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::*;

const CALLERS: usize = 4;
const DOWN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

struct Storm {
    upstream: Upstream,
    proxy: Proxy,
    /// Requests while it was down, and how long that was.
    requests: usize,
    lasted: Duration,
    /// What reached the upstream meanwhile.
    attempts: usize,
}

/// About 200 requests a second for three seconds at an upstream that reads them and hangs up; then it is well again.
fn storm(keys: &str) -> Storm {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let upstream = Upstream::choosing(move |_, _| match is_down.load(Ordering::SeqCst) {
        true => close(),
        false => reply(200),
    });
    let keys = format!("retry: {{ attempts: 4, backoff: {{ base: 5ms, max: 20ms }} }}, {keys}");
    let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
    let requests = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while begun.elapsed() < DOWN {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let status = client.send(&get("/x")).whole().status;
                    assert!(matches!(status, 502 | 503), "{status}");
                    std::thread::sleep(PAUSE);
                }
            });
        }
    });
    let lasted = begun.elapsed();
    let attempts = upstream.count();
    down.store(false, Ordering::SeqCst);
    Storm {
        upstream,
        proxy,
        requests: requests.into_inner(),
        lasted,
        attempts,
    }
}

impl Storm {
    /// A fifth of the requests, and the floor for each second that has begun.
    fn most(&self) -> usize {
        let seconds = usize::try_from(self.lasted.as_secs()).unwrap() + 2;
        self.requests + self.requests / 5 + 3 * seconds
    }

    /// The attempts that the log tells of, once it tells of every request.
    fn logged(&self) -> usize {
        let lines = || {
            let log = self.proxy.log();
            log.into_iter()
                .filter(|line| line.contains("\"path\":\"/x\""))
        };
        until("a line for each request", || {
            lines().count() == self.requests
        });
        let attempts = |line: String| {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            usize::try_from(line["attempts"].as_u64().unwrap()).unwrap()
        };
        lines().map(attempts).sum()
    }

    fn metric(&self, name: &str) -> usize {
        let sum = self.proxy.metrics().value(name, &[("upstream", "up")]);
        let sum = sum.unwrap_or_default();
        format!("{sum}").parse().unwrap()
    }
}

#[test]
fn without_a_breaker_repeats_stay_within_a_fifth_and_a_floor() {
    let storm = storm("breaker: { enabled: false }");
    let attempts = storm.attempts;
    assert!(
        attempts > storm.requests,
        "{attempts} attempts for {} requests: some are repeated",
        storm.requests
    );
    assert!(
        attempts <= storm.most(),
        "{attempts} attempts for {} requests, at most {} were to be made",
        storm.requests,
        storm.most()
    );
    assert_eq!(storm.logged(), attempts, "the log tells of each");
    assert_eq!(storm.metric("trunkline_upstream_attempts_total"), attempts);
    let repeats = attempts - storm.requests;
    assert_eq!(storm.metric("trunkline_retries_total"), repeats);
    assert!(storm.metric("trunkline_retries_skipped_total") > 0);
}

#[test]
fn with_a_breaker_an_upstream_that_is_down_is_left_alone() {
    let storm = storm("breaker: { failure_threshold: 3, recovery_timeout: 200ms }");
    assert!(
        storm.attempts < storm.requests / 2,
        "{} attempts for {} requests",
        storm.attempts,
        storm.requests
    );
    assert_eq!(storm.logged(), storm.attempts);
    let labels = [("service", "up")];
    until("the circuit to close again", || {
        storm.proxy.get("/y");
        let state = storm.proxy.metrics();
        state.value("circuit_breaker_state", &labels) == Some(0.0)
    });
    assert!(storm.upstream.count() > storm.attempts);
}
