//! The guard's promises, on both stores: each test of time and order runs in memory and on a file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod crash;
mod oracle;

use super::*;
use crate::clock::Duration;
use http::Method;

pub(super) fn key(name: &str) -> CreateKey {
    CreateKey::of(&Create {
        account: &Account::injected("a"),
        method: &Method::POST,
        authority: "api.example.com",
        host: None,
        path: "/call",
        query: None,
        content_type: None,
        body: name.as_bytes(),
    })
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Both clocks, moved together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Time {
    pub(super) fn start() -> Time {
        Time {
            now: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + secs(1_800_000_000),
        }
    }

    pub(super) fn plus(self, n: u64) -> Time {
        Time {
            now: self.now + secs(n),
            wall: self.wall + secs(n),
        }
    }
}

pub(super) fn begin(at: Time, correlation_id: &str) -> Begin<'_> {
    Begin {
        correlation_id,
        upstream: "vapi",
        window: secs(60),
        now: at.now,
        wall: at.wall,
        confirmed: None,
    }
}

pub(super) fn unknown(why: &str) -> Outcome {
    Outcome::Unknown {
        why: why.to_owned(),
    }
}

pub(super) fn processed(id: &str) -> Outcome {
    Outcome::Processed {
        vendor_id: Some(id.to_owned()),
    }
}

/// Runs a promise on each store.
fn on_both<F: Future<Output = ()>>(promise: impl Fn(Guard, Time) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let t0 = Time::start();
    runtime.block_on(promise(Guard::in_memory(Bounds::default()), t0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let guard = Guard::open(&path, Bounds::default(), t0.now, t0.wall).unwrap();
    runtime.block_on(promise(guard, t0));
}

async fn ok(guard: &Guard, name: &str, at: Time) -> Ticket {
    guard.begin(key(name), begin(at, "first")).await.unwrap()
}

async fn held(guard: &Guard, name: &str, at: Time) -> Held {
    let refused = guard.begin(key(name), begin(at, "again")).await;
    *refused.expect_err("held")
}

#[test]
fn equal_creates_pass_while_no_outcome_is_unknown() {
    on_both(|guard, t0| async move {
        let one = ok(&guard, "x", t0).await;
        let two = ok(&guard, "x", t0).await;
        one.settle(processed("c1"), t0.now);
        two.settle(Outcome::NeverProcessed, t0.now);
        drop(ok(&guard, "y", t0).await);
        ok(&guard, "x", t0).await.settle(processed("c2"), t0.now);
        assert_eq!(guard.held(t0.now, t0.wall).len(), 1);
    });
}

#[test]
fn an_unknown_outcome_refuses_the_same_create_for_the_window() {
    on_both(|guard, t0| async move {
        let ticket = ok(&guard, "x", t0).await;
        assert_eq!(ticket.cover(), Cover::Kept);
        ticket.settle(unknown("503 from the vendor"), t0.plus(5).now);
        let found = held(&guard, "x", t0.plus(25)).await;
        let expected = Held {
            id: key("x").public_id(),
            correlation_id: "first".to_owned(),
            begun: t0.wall,
            since: t0.plus(5).wall,
            until: t0.plus(65).wall,
            left: secs(40),
            what: "503 from the vendor".to_owned(),
            vendor_id: None,
        };
        assert_eq!(found, expected);
        drop(ok(&guard, "other", t0).await);
        held(&guard, "x", t0.plus(64)).await;
        let again = ok(&guard, "x", t0.plus(65)).await;
        again.settle(Outcome::NeverProcessed, t0.plus(65).now);
    });
}

#[test]
fn a_dropped_ticket_is_an_unknown_outcome() {
    on_both(|guard, t0| async move {
        drop(ok(&guard, "x", t0).await);
        assert!(
            held(&guard, "x", t0)
                .await
                .what
                .contains("without an answer")
        );
        held(&guard, "x", t0.plus(59)).await;
        drop(ok(&guard, "x", t0.plus(60)).await);
    });
}

#[test]
fn a_client_that_left_finds_the_guard_until_the_attempt_proves_nothing_was_done() {
    on_both(|guard, t0| async move {
        let ticket = ok(&guard, "x", t0).await;
        ticket.client_left(t0.plus(1).now);
        assert_eq!(held(&guard, "x", t0.plus(2)).await.until, t0.plus(61).wall);
        assert!(guard.held(t0.plus(2).now, t0.plus(2).wall)[0].followed);
        // The attempt may still be carried out: it outlasts the window.
        held(&guard, "x", t0.plus(100)).await;
        ticket.settle(Outcome::NeverProcessed, t0.plus(101).now);
        drop(ok(&guard, "x", t0.plus(101)).await);
    });
}

#[test]
fn a_client_that_left_is_told_the_vendors_id_until_the_window_ends() {
    on_both(|guard, t0| async move {
        let ticket = ok(&guard, "x", t0).await;
        ticket.client_left(t0.plus(1).now);
        ticket.settle(processed("call-7"), t0.plus(30).now);
        let found = held(&guard, "x", t0.plus(31)).await;
        assert_eq!(found.vendor_id.as_deref(), Some("call-7"));
        assert_eq!(
            (found.since, found.until),
            (t0.plus(1).wall, t0.plus(61).wall)
        );
        drop(ok(&guard, "x", t0.plus(61)).await);
    });
}

#[test]
fn proof_that_comes_after_the_window_is_shown_for_a_window() {
    on_both(|guard, t0| async move {
        let ticket = ok(&guard, "x", t0).await;
        ticket.client_left(t0.plus(1).now);
        ticket.settle(processed("call-7"), t0.plus(200).now);
        let found = held(&guard, "x", t0.plus(259)).await;
        assert_eq!(found.vendor_id.as_deref(), Some("call-7"));
        drop(ok(&guard, "x", t0.plus(260)).await);
    });
}

#[test]
fn a_followed_attempt_that_ends_unknown_begins_the_window_then() {
    on_both(|guard, t0| async move {
        let ticket = ok(&guard, "x", t0).await;
        ticket.client_left(t0.plus(1).now);
        ticket.settle(unknown("reset"), t0.plus(30).now);
        assert_eq!(held(&guard, "x", t0.plus(89)).await.what, "reset");
        drop(ok(&guard, "x", t0.plus(90)).await);
    });
}

#[test]
fn a_confirmed_retry_lifts_exactly_what_it_names() {
    on_both(|guard, t0| async move {
        let one = guard.begin(key("x"), begin(t0, "one")).await.unwrap();
        let two = guard.begin(key("x"), begin(t0, "two")).await.unwrap();
        one.settle(unknown("reset"), t0.now);
        two.settle(unknown("reset"), t0.plus(10).now);
        let confirmed = |id: &'static str| Begin {
            confirmed: Some(id),
            ..begin(t0.plus(11), "three")
        };
        let found = guard.begin(key("x"), confirmed("other")).await.unwrap_err();
        assert_eq!(found.correlation_id, "one");
        assert_eq!(found.left, secs(59));
        let found = guard.begin(key("x"), confirmed("one")).await.unwrap_err();
        assert_eq!(found.correlation_id, "two");
        drop(guard.begin(key("y"), begin(t0, "two")).await.unwrap());
        let ticket = guard.begin(key("x"), confirmed("two")).await.unwrap();
        ticket.settle(unknown("reset"), t0.plus(12).now);
        assert_eq!(held(&guard, "x", t0.plus(12)).await.correlation_id, "three");
        let held = guard.held(t0.plus(12).now, t0.plus(12).wall);
        assert!(held.iter().any(|view| view.held.correlation_id == "two"));
    });
}

#[test]
fn an_operator_lifts_by_public_id_and_by_correlation_id() {
    on_both(|guard, t0| async move {
        for (name, lift) in [("x", key("x").public_id()), ("y", "first".to_owned())] {
            let followed = ok(&guard, name, t0).await;
            drop(ok(&guard, name, t0).await);
            followed.client_left(t0.now);
            assert_eq!(guard.held(t0.now, t0.wall).len(), 2);
            assert!(guard.lift(&lift));
            assert!(!guard.lift(&lift));
            // What is lifted stays so, whatever the attempt comes to.
            followed.settle(unknown("reset"), t0.now);
            ok(&guard, name, t0).await.settle(processed("c"), t0.now);
        }
        assert_eq!(guard.size(), (0, 0));
    });
}

#[test]
fn a_window_of_nothing_switches_the_guard_off() {
    on_both(|guard, t0| async move {
        drop(ok(&guard, "x", t0).await);
        let off = Begin {
            window: Duration::ZERO,
            ..begin(t0, "again")
        };
        let ticket = guard.begin(key("x"), off).await.unwrap();
        assert_eq!(ticket.cover(), Cover::Off);
        drop(ticket);
        assert_eq!(guard.held(t0.now, t0.wall).len(), 1);
    });
}

#[test]
fn a_full_guard_says_so_and_forgets_nothing() {
    on_both(|guard, t0| async move {
        guard.rebound(Bounds {
            entries: 2,
            bytes: usize::MAX,
        });
        drop(ok(&guard, "x", t0).await);
        let flying = ok(&guard, "y", t0).await;
        assert_eq!(ok(&guard, "z", t0).await.cover(), Cover::NoRoom);
        held(&guard, "x", t0).await;
        flying.settle(unknown("reset"), t0.now);
        held(&guard, "y", t0).await;
        assert_eq!(ok(&guard, "z", t0.plus(60)).await.cover(), Cover::Kept);
        guard.rebound(Bounds {
            entries: 10,
            bytes: guard.size().1,
        });
        assert_eq!(ok(&guard, "u", t0.plus(60)).await.cover(), Cover::NoRoom);
    });
}

#[test]
fn long_words_from_outside_are_cut() {
    on_both(|guard, t0| async move {
        let ticket = ok(&guard, "x", t0).await;
        ticket.settle(unknown(&"é".repeat(1000)), t0.now);
        assert_eq!(held(&guard, "x", t0).await.what, "é".repeat(128));
        let ticket = ok(&guard, "y", t0).await;
        ticket.client_left(t0.now);
        ticket.settle(processed(&"i".repeat(1000)), t0.now);
        let found = held(&guard, "y", t0).await;
        assert_eq!(found.vendor_id.unwrap().len(), 128);
    });
}

#[test]
fn every_worker_at_once_keeps_the_counts_right() {
    let run = |guard: Guard| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .build()
            .unwrap();
        let t0 = Time::start();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..64u64)
                .map(|n| {
                    let guard = guard.clone();
                    tokio::spawn(async move {
                        for round in 0..20 {
                            let name = ["x", "y", "z"][(n % 3) as usize];
                            let Ok(ticket) = guard.begin(key(name), begin(t0, "c")).await else {
                                guard.lift("c");
                                continue;
                            };
                            match (n + round) % 5 {
                                0 => ticket.settle(unknown("reset"), t0.now),
                                1 => drop(ticket),
                                2 => {
                                    ticket.client_left(t0.now);
                                    tokio::task::yield_now().await;
                                    ticket.settle(processed("id"), t0.now);
                                }
                                _ => ticket.settle(Outcome::NeverProcessed, t0.now),
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            guard.sweep(t0.now);
            assert_eq!(guard.size().0, guard.held(t0.now, t0.wall).len());
            guard.sweep(t0.plus(60).now);
            assert_eq!(guard.size(), (0, 0));
            assert!(guard.flush().await);
        });
    };
    run(Guard::in_memory(Bounds::default()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let t0 = Time::start();
    run(Guard::open(&path, Bounds::default(), t0.now, t0.wall).unwrap());
    let again = Guard::open(&path, Bounds::default(), t0.now, t0.wall).unwrap();
    assert_eq!(again.size(), (0, 0));
}
