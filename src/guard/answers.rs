//! What was answered under an `Idempotency-Key` or to an event, so that the same request gets it again.
//!
//! The first request of a key runs, equal ones wait for it and get its answer, and for a while so do
//! later ones; another request under the same key is a conflict. It holds answers within a bound in
//! bytes, the oldest go first, and keeps none of what was never carried out. Called by the proxy
//! around the guard, which alone knows whether a create may go out again, and where webhooks are checked.

use super::key::{CreateKey, Scope};
use super::owner::Owner;
use super::stored::StoredAnswer;
use crate::clock::{Duration, Instant};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How long an answer is given again under an `Idempotency-Key`.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// The longest body that is kept.
pub const LONGEST_BODY: usize = 1 << 20;
/// What an entry takes beside its answer: its place in the table of keys, at the emptiest that such a table
/// is, and twice in the list of those that ended.
const OVERHEAD: usize = 512;

/// Why an answer cannot be given to a request that waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAnswer {
    /// Of the request that ran.
    pub correlation_id: String,
    /// What became of it.
    pub what: String,
}

/// What a request that carries an `Idempotency-Key` is to do.
#[derive(Debug)]
pub enum Claim {
    /// Go on, and say what came of it.
    Run(Owner),
    /// Give this answer.
    Recorded(Arc<StoredAnswer>),
    /// Refuse: the key belongs to another request.
    Conflict,
    /// Refuse: the request that ran may have been carried out, and there is no answer to give.
    Unknown(Arc<UnknownAnswer>),
}

/// The answers of all keys, shared by every worker; a clone is the same set.
#[derive(Clone)]
pub struct Answers {
    shared: Arc<Mutex<Slots>>,
}

impl Answers {
    /// Keeps at most so many bytes of answers.
    pub fn new(bytes: usize) -> Answers {
        let slots = Slots {
            most: bytes,
            ..Slots::default()
        };
        Answers {
            shared: Arc::new(Mutex::new(slots)),
        }
    }

    /// Waits while an equal request of the same scope runs. What it comes to is kept for a day. To be
    /// cancelled by dropping it.
    pub async fn claim(
        &self,
        scope: Scope,
        request: CreateKey,
        correlation_id: &str,
        now: Instant,
    ) -> Claim {
        self.claim_for(KEPT_FOR, (scope, request), correlation_id, now)
            .await
    }

    /// The same, and what it comes to is kept for so long.
    pub async fn claim_for(
        &self,
        window: Duration,
        key: (Scope, CreateKey),
        correlation_id: &str,
        now: Instant,
    ) -> Claim {
        loop {
            let mut running = match self.look(key, correlation_id, (window, now)) {
                Ok(claim) => return claim,
                Err(running) => running,
            };
            // An owner that is gone without a word has freed its slot before.
            let end = running.wait_for(Option::is_some).await;
            match end.ok().and_then(|end| end.clone()) {
                Some(End::Answer(answer)) => return Claim::Recorded(answer),
                Some(End::Unanswerable(unknown) | End::Lost(unknown)) => {
                    return Claim::Unknown(unknown);
                }
                Some(End::Free) | None => {}
            }
        }
    }

    /// The same without a wait: none while an equal request runs.
    pub fn claim_at_once(
        &self,
        window: Duration,
        key: (Scope, CreateKey),
        correlation_id: &str,
        now: Instant,
    ) -> Option<Claim> {
        self.look(key, correlation_id, (window, now)).ok()
    }

    /// What there is to do, or where the end of the request will be told that runs.
    fn look(
        &self,
        (scope, request): (Scope, CreateKey),
        correlation_id: &str,
        times: (Duration, Instant),
    ) -> Result<Claim, watch::Receiver<Option<End>>> {
        let serial = match lock(&self.shared).look(scope, request, times) {
            Look::Free(serial) => serial,
            Look::Running(running) => return Err(running),
            Look::Settled(claim) => return Ok(claim),
        };
        let slot = (self.clone(), scope, serial);
        Ok(Claim::Run(Owner::of(slot, correlation_id)))
    }

    /// Nobody runs under this key from now on and for so long, as if its request had been answered and the answer
    /// not been kept. Who runs or waits under it meanwhile is not asked.
    pub fn close(
        &self,
        window: Duration,
        (scope, request): (Scope, CreateKey),
        correlation_id: &str,
        now: Instant,
    ) {
        let unknown = UnknownAnswer {
            correlation_id: correlation_id.to_owned(),
            what: String::new(),
        };
        let end = End::Unanswerable(Arc::new(unknown));
        lock(&self.shared).close(scope, (request, end), (window, now));
    }

    /// So the request of that number has ended. Some: who waited for that, and is to be told.
    pub(super) fn settle(
        &self,
        scope: Scope,
        serial: u64,
        end: End,
        now: Option<Instant>,
    ) -> Option<watch::Sender<Option<End>>> {
        lock(&self.shared).settle(scope, serial, end, now)
    }

    /// Ends what has run out; to be called every minute or so.
    pub fn sweep(&self, now: Instant) {
        lock(&self.shared).expire(now);
    }

    /// Another bound from now on.
    pub fn rebound(&self, bytes: usize) {
        let mut slots = lock(&self.shared);
        slots.most = bytes;
        slots.shrink();
    }

    /// How many keys are known, and the bytes of what is kept for them.
    pub fn size(&self) -> (usize, usize) {
        let slots = lock(&self.shared);
        (slots.by_scope.len(), slots.bytes)
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers(..)")
    }
}

fn lock(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the request of a key ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Nothing was carried out.
    Free,
    /// So it was answered.
    Answer(Arc<StoredAnswer>),
    /// It was answered, and the answer is not kept.
    Unanswerable(Arc<UnknownAnswer>),
    /// Nobody knows; the key goes on standing for that request alone.
    Lost(Arc<UnknownAnswer>),
}

impl End {
    fn cost(&self) -> usize {
        match self {
            End::Answer(answer) => OVERHEAD + answer.size(),
            End::Free | End::Unanswerable(_) | End::Lost(_) => OVERHEAD,
        }
    }
}

/// One key.
#[derive(Debug)]
struct Slot {
    serial: u64,
    request: CreateKey,
    window: Duration,
    until: Instant,
    /// None while the request runs.
    end: Option<End>,
    /// Who waits while it runs, if anybody does.
    waited: Option<watch::Sender<Option<End>>>,
}

/// What a request finds under its key.
enum Look {
    /// Nothing: it runs.
    Free(u64),
    /// An equal request that runs.
    Running(watch::Receiver<Option<End>>),
    /// What to answer.
    Settled(Claim),
}

/// All keys. What runs is bounded by the requests there are; what has ended, by `most`.
#[derive(Debug, Default)]
struct Slots {
    most: usize,
    by_scope: HashMap<Scope, Slot>,
    /// What has ended, the oldest first; a slot that is no longer of that serial was taken anew.
    ended: VecDeque<(Scope, u64)>,
    bytes: usize,
    next: u64,
}

impl Slots {
    fn look(
        &mut self,
        scope: Scope,
        request: CreateKey,
        (window, now): (Duration, Instant),
    ) -> Look {
        self.expire(now);
        if let Some(slot) = self.by_scope.get_mut(&scope) {
            let over = slot.end.is_some() && slot.until <= now;
            if !over && slot.request != request {
                return Look::Settled(Claim::Conflict);
            }
            match &slot.end {
                None => {
                    let waited = slot.waited.get_or_insert_with(|| watch::Sender::new(None));
                    return Look::Running(waited.subscribe());
                }
                Some(End::Answer(answer)) if !over => {
                    return Look::Settled(Claim::Recorded(Arc::clone(answer)));
                }
                Some(End::Unanswerable(unknown)) if !over => {
                    return Look::Settled(Claim::Unknown(Arc::clone(unknown)));
                }
                Some(_) => self.remove(scope),
            }
        }
        Look::Free(self.insert(scope, request, (window, now)))
    }

    fn insert(
        &mut self,
        scope: Scope,
        request: CreateKey,
        (window, now): (Duration, Instant),
    ) -> u64 {
        let serial = self.next;
        self.next += 1;
        let slot = Slot {
            serial,
            request,
            window,
            until: now + window,
            end: None,
            waited: None,
        };
        self.by_scope.insert(scope, slot);
        serial
    }

    /// Ends a key whatever stands under it. Who waits for what ran there looks again, and finds this.
    fn close(
        &mut self,
        scope: Scope,
        (request, end): (CreateKey, End),
        (window, now): (Duration, Instant),
    ) {
        self.expire(now);
        self.remove(scope);
        let serial = self.insert(scope, request, (window, now));
        self.settle(scope, serial, end, Some(now));
    }

    /// Keeps how a request ended. Some: who waited for that, and is to be told.
    fn settle(
        &mut self,
        scope: Scope,
        serial: u64,
        end: End,
        now: Option<Instant>,
    ) -> Option<watch::Sender<Option<End>>> {
        let slot = self.by_scope.get_mut(&scope);
        let slot = slot.filter(|slot| slot.serial == serial)?;
        let waited = slot.waited.take();
        if matches!(end, End::Free) {
            self.by_scope.remove(&scope);
            return waited;
        }
        if let Some(now) = now {
            slot.until = now + slot.window;
        }
        self.bytes += end.cost();
        slot.end = Some(end);
        self.ended.push_back((scope, serial));
        self.shrink();
        waited
    }

    fn remove(&mut self, scope: Scope) {
        if let Some(slot) = self.by_scope.remove(&scope) {
            self.bytes -= slot.end.map_or(0, |end| end.cost());
        }
    }

    /// Lets the oldest go until the rest fits.
    fn shrink(&mut self) {
        while self.bytes > self.most && self.drop_oldest(|_| true) {}
        if self.ended.len() > 2 * self.by_scope.len() + 64 {
            let slots = &self.by_scope;
            let stands = |(scope, serial): &(Scope, u64)| {
                slots.get(scope).is_some_and(|slot| slot.serial == *serial)
            };
            self.ended.retain(stands);
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.drop_oldest(|slot| slot.until <= now) {}
    }

    /// Lets the oldest go if `may` allows; whether there is more to look at.
    fn drop_oldest(&mut self, may: impl FnOnce(&Slot) -> bool) -> bool {
        let Some(&(scope, serial)) = self.ended.front() else {
            return false;
        };
        match self.by_scope.get(&scope) {
            Some(slot) if slot.serial == serial => {
                if !may(slot) {
                    return false;
                }
                self.remove(scope);
            }
            _ => {}
        }
        self.ended.pop_front();
        true
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]
mod tests {
    use super::super::key::{Account, Create};
    use super::super::owner::TOO_LARGE;
    use super::super::record::Cover;
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, StatusCode};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn scope(name: &str) -> Scope {
        let key = HeaderValue::from_str(name).unwrap();
        Scope::of(&Account::injected("a"), b"client", "route", &key)
    }

    fn request(body: &[u8]) -> CreateKey {
        CreateKey::of(&Create {
            account: &Account::injected("a"),
            method: &Method::POST,
            authority: "up",
            host: None,
            path: "/call",
            query: None,
            content_type: None,
            body,
        })
    }

    fn answer(body: impl Into<Bytes>) -> StoredAnswer {
        let body: Bytes = body.into();
        StoredAnswer::of(StatusCode::CREATED, &HeaderMap::new(), &[], [&body])
    }

    /// What a claim gives at once; none if it waits.
    fn at_once(answers: &Answers, name: &str, body: &[u8], now: Instant) -> Option<Claim> {
        let claim = pin!(answers.claim(scope(name), request(body), "id", now));
        match { claim }.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(claim) => Some(claim),
            Poll::Pending => None,
        }
    }

    fn owner(answers: &Answers, name: &str, body: &[u8], now: Instant) -> Owner {
        match at_once(answers, name, body, now) {
            Some(Claim::Run(owner)) => owner,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_recorded_answer_is_given_for_a_day_and_no_longer() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        owner(&answers, "k", b"x", t0).record(answer("made"), t0);
        let almost = t0 + KEPT_FOR - Duration::from_millis(1);
        match at_once(&answers, "k", b"x", almost) {
            Some(Claim::Recorded(found)) => assert_eq!(*found, answer("made")),
            other => panic!("{other:?}"),
        }
        drop(owner(&answers, "k", b"x", t0 + KEPT_FOR));
        assert_eq!(answers.size(), (0, 0));
    }

    #[test]
    fn another_request_under_the_same_key_is_a_conflict_in_every_state() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        let conflict = |name| {
            let claim = at_once(&answers, name, b"y", t0);
            assert!(matches!(claim, Some(Claim::Conflict)), "{name}: {claim:?}");
        };
        let running = owner(&answers, "running", b"x", t0);
        conflict("running");
        running.record(answer(""), t0);
        conflict("running");
        owner(&answers, "lost", b"x", t0).unknown("reset");
        conflict("lost");
        owner(&answers, "large", b"x", t0).unrecorded(TOO_LARGE, t0);
        conflict("large");
    }

    #[test]
    fn what_was_never_carried_out_leaves_the_key_free() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        owner(&answers, "k", b"x", t0).forget();
        drop(owner(&answers, "k", b"y", t0));
        assert_eq!(answers.size(), (0, 0));
    }

    #[test]
    fn after_an_unknown_outcome_the_same_request_asks_the_guard_again() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        owner(&answers, "k", b"x", t0).unknown("reset");
        let mut again = owner(&answers, "k", b"x", t0);
        again.sending(Cover::Kept);
        drop(again);
        owner(&answers, "k", b"x", t0).record(answer("made"), t0);
        assert!(matches!(
            at_once(&answers, "k", b"x", t0),
            Some(Claim::Recorded(_))
        ));
        assert_eq!(answers.size(), (1, OVERHEAD + answer("made").size()));
    }

    #[test]
    fn a_closed_key_lets_nobody_run_whatever_stood_under_it() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        let refused =
            |name: &str, at| matches!(at_once(&answers, name, b"x", at), Some(Claim::Unknown(_)));
        let running = owner(&answers, "running", b"x", t0);
        owner(&answers, "answered", b"x", t0).record(answer("made"), t0);
        for name in ["new", "running", "answered"] {
            answers.close(KEPT_FOR, (scope(name), request(b"x")), "id", t0);
            assert!(refused(name, t0), "{name}");
        }
        // Whoever ran has no say any more.
        running.forget();
        assert!(refused("running", t0));
        assert_eq!(answers.size(), (3, 3 * OVERHEAD));
        assert!(!refused("new", t0 + KEPT_FOR));
    }

    #[tokio::test]
    async fn who_waits_under_a_key_that_is_closed_is_told_so() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        let running = owner(&answers, "k", b"x", t0);
        let mut waits = pin!(answers.claim(scope("k"), request(b"x"), "id", t0));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        answers.close(KEPT_FOR, (scope("k"), request(b"x")), "id", t0);
        assert!(matches!(waits.await, Claim::Unknown(_)));
        running.forget();
    }

    #[test]
    fn an_answer_too_large_to_keep_lets_nobody_run_again() {
        let (answers, t0) = (Answers::new(8 << 20), Instant::now());
        let large = answer(vec![0; LONGEST_BODY + 1]);
        owner(&answers, "k", b"x", t0).record(large, t0);
        match at_once(&answers, "k", b"x", t0) {
            Some(Claim::Unknown(unknown)) => assert_eq!(unknown.correlation_id, "id"),
            other => panic!("{other:?}"),
        }
        assert_eq!(answers.size(), (1, OVERHEAD));
    }

    #[test]
    fn the_oldest_answers_go_when_the_bytes_are_spent() {
        let most = 10 * (OVERHEAD + answer(vec![0; 1000]).size());
        let (answers, t0) = (Answers::new(most), Instant::now());
        for i in 0..25 {
            owner(&answers, &i.to_string(), b"x", t0).record(answer(vec![0; 1000]), t0);
            assert!(answers.size().1 <= most);
        }
        for i in 0..25 {
            let kept = matches!(
                at_once(&answers, &i.to_string(), b"x", t0),
                Some(Claim::Recorded(_))
            );
            assert_eq!(kept, i >= 15, "{i}");
        }
        answers.rebound(0);
        assert_eq!(answers.size().1, 0);
    }

    #[test]
    fn a_key_lost_again_and_again_takes_no_more_room() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        for _ in 0..10_000 {
            owner(&answers, "k", b"x", t0).unknown("reset");
        }
        assert_eq!(answers.size(), (1, OVERHEAD));
        assert!(lock(&answers.shared).ended.len() <= 67);
        answers.sweep(t0 + KEPT_FOR);
        assert_eq!(answers.size(), (0, 0));
    }

    #[test]
    fn a_waiter_that_leaves_disturbs_nobody() {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        let first = owner(&answers, "k", b"x", t0);
        for _ in 0..100 {
            assert!(at_once(&answers, "k", b"x", t0).is_none());
        }
        first.record(answer("made"), t0);
        assert!(matches!(
            at_once(&answers, "k", b"x", t0),
            Some(Claim::Recorded(_))
        ));
    }

    /// What 50 concurrent claims of one key come to, where `run` does what the owner does.
    async fn fifty(run: fn(usize, Owner, Instant)) -> (usize, usize, usize) {
        let (answers, t0) = (Answers::new(1 << 20), Instant::now());
        let ran = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (answers, ran) = (answers.clone(), Arc::clone(&ran));
                tokio::spawn(async move {
                    match answers.claim(scope("k"), request(b"x"), "id", t0).await {
                        Claim::Run(mut owner) => {
                            let nth = ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            owner.sending(Cover::Kept);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            run(nth, owner, t0);
                            (1, 0, 0)
                        }
                        Claim::Recorded(_) => (0, 1, 0),
                        Claim::Unknown(_) => (0, 0, 1),
                        Claim::Conflict => (0, 0, 0),
                    }
                })
            })
            .collect();
        let mut sum = (0, 0, 0);
        for task in tasks {
            let (a, b, c) = task.await.unwrap();
            sum = (sum.0 + a, sum.1 + b, sum.2 + c);
        }
        sum
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_concurrent_equal_requests_one_runs_and_all_get_its_answer() {
        let recorded = fifty(|_, owner, now| owner.record(answer("made"), now)).await;
        assert_eq!(recorded, (1, 49, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn after_refusals_the_next_waiter_runs() {
        let third = fifty(|nth, owner, now| match nth {
            0 | 1 => owner.forget(),
            _ => owner.record(answer("made"), now),
        });
        assert_eq!(third.await, (3, 47, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn waiters_of_a_lost_owner_are_told_so() {
        let (ran, recorded, unknown) = fifty(|_, owner, _| drop(owner)).await;
        assert_eq!(recorded, 0);
        assert_eq!(ran + unknown, 50);
        assert!(unknown > 0);
    }
}
