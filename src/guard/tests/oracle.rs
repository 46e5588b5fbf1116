//! Any order of calls against a list of attempts that is searched from end to end.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Begin {
        key: usize,
        window: u64,
        confirmed: Option<usize>,
    },
    Settle(usize, u8),
    Left(usize),
    Drop(usize),
    LiftKey(usize),
    LiftCorrelation(usize),
    Advance(u64),
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..3, prop_oneof![Just(5u64), Just(20)], proptest::option::weighted(0.3, 0usize..30))
            .prop_map(|(key, window, confirmed)| Op::Begin { key, window, confirmed }),
        4 => (0usize..30, 0u8..3).prop_map(|(ticket, outcome)| Op::Settle(ticket, outcome)),
        3 => (0usize..30).prop_map(Op::Left),
        2 => (0usize..30).prop_map(Op::Drop),
        1 => (0usize..3).prop_map(Op::LiftKey),
        1 => (0usize..30).prop_map(Op::LiftCorrelation),
        3 => (0u64..12).prop_map(Op::Advance),
        1 => Just(Op::Crash),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Flying,
    Left(u64),
    Held { until: u64, proven: bool },
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    key: usize,
    window: u64,
    state: State,
}

impl Attempt {
    fn holds(&self, now: u64) -> bool {
        match self.state {
            State::Left(_) => true,
            State::Held { until, .. } => now < until,
            State::Flying | State::Gone => false,
        }
    }

    fn until(&self, now: u64) -> u64 {
        match self.state {
            State::Left(at) => now.max(at + self.window),
            State::Held { until, .. } => until,
            State::Flying | State::Gone => now,
        }
    }
}

/// Every attempt there ever was; the number of an attempt is its correlation id.
#[derive(Debug, Default)]
struct Oracle {
    attempts: Vec<Attempt>,
    now: u64,
}

impl Oracle {
    fn held(&self, key: usize) -> Option<(usize, u64)> {
        let holds = || {
            self.attempts
                .iter()
                .enumerate()
                .filter(|(_, a)| a.key == key && a.holds(self.now))
        };
        let first = holds().next()?.0;
        let until = holds().map(|(_, a)| a.until(self.now)).max()?;
        Some((first, until - self.now))
    }

    fn settle(&mut self, n: usize, outcome: u8) {
        let now = self.now;
        let a = &mut self.attempts[n];
        let fresh = now + a.window;
        a.state = match (a.state, outcome) {
            (State::Gone | State::Held { .. }, _) => return,
            (_, 0) => State::Held {
                until: fresh,
                proven: false,
            },
            (State::Left(at), 1) => State::Held {
                until: if at + a.window > now {
                    at + a.window
                } else {
                    fresh
                },
                proven: true,
            },
            _ => State::Gone,
        };
    }

    fn lift(&mut self, of: impl Fn(usize, &Attempt) -> bool) -> bool {
        let now = self.now;
        let mut any = false;
        for (n, a) in self.attempts.iter_mut().enumerate() {
            if a.holds(now) && of(n, a) {
                a.state = State::Gone;
                any = true;
            }
        }
        any
    }
}

struct World {
    guard: Guard,
    tickets: Vec<Option<Ticket>>,
    oracle: Oracle,
    t0: Time,
    folder: Option<tempfile::TempDir>,
    crashes: usize,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl World {
    fn new(on_file: bool) -> World {
        let t0 = Time::start();
        let folder = on_file.then(|| tempfile::tempdir().unwrap());
        let guard = match &folder {
            Some(folder) => {
                let path = folder.path().join("state-0");
                Guard::open(&path, Bounds::default(), t0.now, t0.wall).unwrap()
            }
            None => Guard::in_memory(Bounds::default()),
        };
        World {
            guard,
            tickets: Vec::new(),
            oracle: Oracle::default(),
            t0,
            folder,
            crashes: 0,
        }
    }

    fn ticket(&mut self, n: usize) -> Option<(usize, Ticket)> {
        let open: Vec<_> = (0..self.tickets.len())
            .filter(|&i| self.tickets[i].is_some())
            .collect();
        let n = *open.get(n % open.len().max(1))?;
        Some((n, self.tickets[n].take()?))
    }

    async fn step(&mut self, op: &Op) {
        let at = self.t0.plus(self.oracle.now);
        match op {
            Op::Begin {
                key,
                window,
                confirmed,
            } => self.begin(*key, *window, *confirmed, at).await,
            Op::Settle(n, outcome) => {
                if let Some((n, ticket)) = self.ticket(*n) {
                    let said = match outcome {
                        0 => unknown("reset"),
                        1 => processed("id"),
                        _ => Outcome::NeverProcessed,
                    };
                    ticket.settle(said, at.now);
                    self.oracle.settle(n, *outcome);
                }
            }
            Op::Left(n) => {
                if let Some((n, ticket)) = self.ticket(*n) {
                    ticket.client_left(at.now);
                    self.tickets[n] = Some(ticket);
                    let now = self.oracle.now;
                    let a = &mut self.oracle.attempts[n];
                    if a.state == State::Flying {
                        a.state = State::Left(now);
                    }
                }
            }
            Op::Drop(n) => {
                if let Some((n, ticket)) = self.ticket(*n) {
                    drop(ticket);
                    self.oracle.settle(n, 0);
                }
            }
            Op::LiftKey(k) => {
                let lifted = self.guard.lift(&key(NAMES[*k]).public_id());
                assert_eq!(lifted, self.oracle.lift(|_, a| a.key == *k));
            }
            Op::LiftCorrelation(c) => {
                let lifted = self.guard.lift(&format!("c{c}"));
                assert_eq!(lifted, self.oracle.lift(|n, _| n == *c));
            }
            Op::Advance(n) => self.oracle.now += n,
            Op::Crash => self.crash(at).await,
        }
    }

    async fn begin(&mut self, k: usize, window: u64, confirmed: Option<usize>, at: Time) {
        let n = self.oracle.attempts.len();
        if let Some(c) = confirmed {
            self.oracle.lift(|n, a| n == c && a.key == k);
        }
        let expected = self.oracle.held(k);
        let (id, confirmed) = (format!("c{n}"), confirmed.map(|c| format!("c{c}")));
        let wanted = Begin {
            window: secs(window),
            confirmed: confirmed.as_deref(),
            ..begin(at, &id)
        };
        match self.guard.begin(key(NAMES[k]), wanted).await {
            Ok(ticket) => {
                assert_eq!(expected, None);
                assert_eq!(ticket.cover(), Cover::Kept);
                self.tickets.push(Some(ticket));
                self.oracle.attempts.push(Attempt {
                    key: k,
                    window,
                    state: State::Flying,
                });
            }
            Err(held) => {
                let (first, left) = expected.expect("free");
                assert_eq!(held.correlation_id, format!("c{first}"));
                assert_eq!(held.left, secs(left));
            }
        }
    }

    /// The process dies and another reads its file.
    async fn crash(&mut self, at: Time) {
        let Some(folder) = &self.folder else { return };
        assert!(self.guard.flush().await);
        let path = |n: usize| folder.path().join(format!("state-{n}"));
        std::fs::copy(path(self.crashes), path(self.crashes + 1)).unwrap();
        self.crashes += 1;
        self.guard = Guard::open(&path(self.crashes), Bounds::default(), at.now, at.wall).unwrap();
        self.tickets.iter_mut().for_each(|ticket| *ticket = None);
        for n in 0..self.oracle.attempts.len() {
            self.oracle.settle(n, 0);
        }
    }

    fn check(&self) {
        let at = self.t0.plus(self.oracle.now);
        let now = self.oracle.now;
        let found: Vec<_> = self
            .guard
            .held(at.now, at.wall)
            .into_iter()
            .map(|v| {
                let held = v.held;
                (
                    held.correlation_id,
                    v.followed,
                    held.left,
                    held.vendor_id.is_some(),
                )
            })
            .collect();
        let attempts = self.oracle.attempts.iter().enumerate();
        let expected: Vec<_> = attempts
            .filter(|(_, a)| a.holds(now))
            .map(|(n, a)| {
                let proven = matches!(a.state, State::Held { proven: true, .. });
                let followed = matches!(a.state, State::Left(_));
                (format!("c{n}"), followed, secs(a.until(now) - now), proven)
            })
            .collect();
        assert_eq!(found, expected);
    }
}

fn agree(ops: &[Op], on_file: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut world = World::new(on_file);
    for op in ops {
        runtime.block_on(world.step(op));
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_agrees_with_a_list_of_attempts(ops in proptest::collection::vec(op(), 1..60)) {
        agree(&ops, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_agrees_with_a_list_of_attempts_through_crashes(ops in proptest::collection::vec(op(), 1..40)) {
        agree(&ops, true);
    }
}
