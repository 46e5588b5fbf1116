//! Several replicas on one file, and what their clients see of them together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::*;

/// The words of one file for all replicas; `@URL@` stands for the store's address.
pub fn replicas(count: usize, url: &str, yaml: &str) -> Vec<Proxy> {
    let all: Vec<Proxy> = (0..count).map(|_| replica(url, yaml)).collect();
    for proxy in &all {
        wait_for_store(proxy, 1.0);
    }
    all
}

/// One replica, in use of its store or not.
pub fn replica(url: &str, yaml: &str) -> Proxy {
    Proxy::start(yaml.replace("@URL@", url))
}

/// Waits until a replica uses its store (1) or does without (0).
#[track_caller]
pub fn wait_for_store(proxy: &Proxy, state: f64) {
    until(&format!("the store to be {state}"), || {
        store_up(proxy) == state
    });
}

pub fn store_up(proxy: &Proxy) -> f64 {
    proxy.metrics().value("trunkline_store_up", &[]).unwrap()
}

/// Operations of the store by result.
pub fn operations(proxy: &Proxy, result: &str) -> f64 {
    let labels = [("result", result)];
    let name = "trunkline_store_operations_total";
    proxy.metrics().value(name, &labels).unwrap()
}

/// Answers that came, by status.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub statuses: Vec<u16>,
    /// Requests without an answer.
    pub broken: usize,
    /// The longest that one answer took.
    pub longest: Duration,
    pub elapsed: Duration,
}

impl Tally {
    pub fn count(&self, status: u16) -> usize {
        self.statuses
            .iter()
            .filter(|other| **other == status)
            .count()
    }

    /// Answers other than these, and requests without one.
    pub fn others(&self, fine: &[u16]) -> usize {
        let odd = self.statuses.iter().filter(|status| !fine.contains(status));
        odd.count() + self.broken
    }

    fn add(&mut self, other: Tally) {
        self.statuses.extend(other.statuses);
        self.broken += other.broken;
        self.longest = self.longest.max(other.longest);
    }
}

/// Sends the same request over and over to every replica until `during` is over; it may last any time.
pub fn load(proxies: &[Proxy], request: &Request, during: impl FnOnce()) -> Tally {
    let over = AtomicBool::new(false);
    let started = Instant::now();
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = proxies
            .iter()
            .map(|proxy| scope.spawn(|| one(proxy, request, &over)))
            .collect();
        during();
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            tally.add(thread.join().unwrap());
        }
    });
    tally.elapsed = started.elapsed();
    tally
}

fn one(proxy: &Proxy, request: &Request, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut client = proxy.connect();
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.start(request);
        match client.try_read(&request.method) {
            Some(answer) => tally.statuses.push(answer.status),
            None => {
                tally.broken += 1;
                client = proxy.connect();
            }
        }
        tally.longest = tally.longest.max(started.elapsed());
        // The machine is shared, and a hundred a second each is overload enough.
        std::thread::sleep(Duration::from_millis(2));
    }
    tally
}
