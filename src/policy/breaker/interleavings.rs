//! The breaker under a model checker: every order in which a few threads can touch it.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release loom_`, in a crate that includes this room alone:
//! tokio leaves its sockets out under that flag. Each model keeps to two or three threads and a handful of
//! steps, since the number of orders grows fast. Only the lock and the atomics are modelled; the shared
//! pointer is the real one, for the breaker's methods take it as their receiver.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests, which need some instant to start from"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::thread;

use super::{Breaker, BreakerSettings, Permit, State, Verdict};

const QUICK: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_secs(30);

fn breaker(failure_threshold: u32, probes: u32, now: Instant) -> Arc<Breaker> {
    let settings = BreakerSettings {
        failure_threshold,
        probes,
        ..BreakerSettings::default()
    };
    Arc::new(Breaker::new(settings, 0, now))
}

/// A breaker that is half-open at the instant returned with it.
fn half_open(probes: u32) -> (Arc<Breaker>, Instant) {
    let now = Instant::now();
    let breaker = breaker(1, probes, now);
    fail(&breaker, breaker.try_permit(now).unwrap(), now);
    (breaker, now + LATER)
}

fn fail(breaker: &Breaker, permit: Permit, now: Instant) -> usize {
    let opened = permit.settle(Verdict::Failure, QUICK, now).transition;
    assert!(opened.is_none() || breaker.totals().opens > 0);
    usize::from(opened.is_some())
}

#[test]
fn loom_concurrent_callers_never_get_more_than_the_probes() {
    for probes in [1, 2] {
        loom::model(move || {
            let (breaker, now) = half_open(probes);
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let breaker = Arc::clone(&breaker);
                    thread::spawn(move || breaker.try_permit(now).ok())
                })
                .collect();
            let mine = breaker.try_permit(now).ok();
            let mut permits: Vec<Permit> = mine.into_iter().collect();
            for caller in callers {
                permits.extend(caller.join().unwrap());
            }
            assert_eq!(permits.len(), usize::try_from(probes).unwrap());
            assert_eq!(breaker.snapshot(now).probes_in_flight, probes);
        });
    }
}

#[test]
fn loom_racing_failures_trip_the_circuit_exactly_once() {
    loom::model(|| {
        let now = Instant::now();
        let breaker = breaker(2, 1, now);
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || match breaker.try_permit(now) {
                    Ok(permit) => fail(&breaker, permit, now),
                    Err(_) => 0,
                })
            })
            .collect();
        let trips: usize = callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum();
        assert_eq!(trips, 1);
        assert_eq!(breaker.state(now), State::Open);
        assert_eq!(breaker.totals().opens, 1);
    });
}

#[test]
fn loom_a_success_that_races_with_a_trip_never_undoes_it() {
    loom::model(|| {
        let now = Instant::now();
        let breaker = breaker(1, 1, now);
        let (good, bad) = (
            breaker.try_permit(now).unwrap(),
            breaker.try_permit(now).unwrap(),
        );
        let other = Arc::clone(&breaker);
        let caller = thread::spawn(move || {
            let settled = good.settle(Verdict::Success, QUICK, now);
            assert_eq!(settled.transition, None);
            other.try_permit(now).is_ok()
        });
        assert_eq!(fail(&breaker, bad, now), 1);
        assert!(breaker.try_permit(now).is_err());
        caller.join().unwrap();
        assert_eq!(breaker.state(now), State::Open);
    });
}

#[test]
fn loom_a_permit_taken_while_the_circuit_trips_decides_no_probe() {
    loom::model(|| {
        let now = Instant::now();
        let breaker = breaker(1, 1, now);
        let bad = breaker.try_permit(now).unwrap();
        let other = Arc::clone(&breaker);
        let caller = thread::spawn(move || other.try_permit(now).ok());
        fail(&breaker, bad, now);
        let probe = breaker.try_permit(now + LATER).unwrap();
        if let Some(stale) = caller.join().unwrap() {
            assert!(!stale.is_probe());
            assert_eq!(fail(&breaker, stale, now + LATER), 0);
        }
        assert_eq!(breaker.state(now + LATER), State::HalfOpen);
        assert_eq!(breaker.snapshot(now + LATER).probes_in_flight, 1);
        drop(probe);
    });
}

#[test]
fn loom_a_dropped_probe_frees_one_slot_for_one_caller() {
    loom::model(|| {
        let (breaker, now) = half_open(1);
        let probe = breaker.try_permit(now).unwrap();
        let dropper = thread::spawn(move || drop(probe));
        let other = Arc::clone(&breaker);
        let caller = thread::spawn(move || other.try_permit(now).ok());
        let mine = breaker.try_permit(now).ok();
        dropper.join().unwrap();
        let theirs = caller.join().unwrap();
        assert!(mine.is_none() || theirs.is_none());
        drop((mine, theirs));
        assert_eq!(breaker.snapshot(now).probes_in_flight, 0);
        assert!(breaker.try_permit(now).is_ok());
    });
}

#[test]
fn loom_a_probe_dropped_while_another_fails_frees_no_later_slot() {
    loom::model(|| {
        let (breaker, now) = half_open(2);
        let (bad, slow) = (
            breaker.try_permit(now).unwrap(),
            breaker.try_permit(now).unwrap(),
        );
        let dropper = thread::spawn(move || drop(slow));
        assert_eq!(fail(&breaker, bad, now), 1);
        let again = now + LATER * 4;
        let probes = [breaker.try_permit(again), breaker.try_permit(again)];
        dropper.join().unwrap();
        assert!(probes.iter().all(Result::is_ok));
        assert!(breaker.try_permit(again).is_err());
        assert_eq!(breaker.snapshot(again).probes_in_flight, 2);
    });
}

#[test]
fn loom_probe_successes_close_the_circuit_exactly_once() {
    loom::model(|| {
        let (breaker, now) = half_open(2);
        let probes = [
            breaker.try_permit(now).unwrap(),
            breaker.try_permit(now).unwrap(),
        ];
        let callers = probes.map(|probe| {
            thread::spawn(move || probe.settle(Verdict::Success, QUICK, now).transition)
        });
        let closings = callers
            .map(|caller| caller.join().unwrap())
            .into_iter()
            .flatten();
        assert_eq!(closings.count(), 1);
        assert_eq!(breaker.state(now), State::Closed);
        assert_eq!(breaker.totals().closes, 1);
    });
}
