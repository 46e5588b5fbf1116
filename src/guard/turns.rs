//! Whose turn a key is, among all replicas: a claim in the shared store while a create runs under it.
//!
//! One step of the store decides who runs. A claim counts for as long as its replica beats, and what became of it is
//! told in the order in which it happened; what cannot be told now waits here, and all that runs is claimed anew in a
//! store that was away or emptied. A replica that dies leaves its claim: then nobody knows the outcome, which the guard
//! says, or the claim itself where the guard has no record there. Called by `recorded`; the writing is done on the
//! fleet's thread.

use super::answers::KEPT_FOR;
use super::claimed::{ASK, Claim, End, Said, TELL, unknown, word};
use super::due::{Errand, Running, State};
use super::lately::Again;
use super::record::millis;
use crate::clock::{self, Duration};
use crate::fleet::script::{Call, Script, items, number, text};
use crate::fleet::{Lost, Shelf};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A store that was away or emptied hears from everyone what runs; until then, but no longer, nobody's turn begins.
const SETTLE: Duration = Duration::from_secs(1);
/// How long who asks waits for this replica to find out that the store began anew.
const CATCH_UP: Duration = Duration::from_millis(250);
/// For how long an unknown outcome that the guard holds too is told to those who wait for it.
const HEARSAY: Duration = Duration::from_secs(2);
/// The longest that what is due is waited for.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);
/// Bytes of answers that are written again at once, so that what requests ask is not late behind them; how long that
/// may take; and when it is tried again.
const PIECE: usize = 64 << 10;
const PIECE_TAKES: Duration = Duration::from_secs(1);
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// This replica's claims.
pub(super) struct Turns {
    pub(super) shelf: Shelf,
    ask: Script,
    tell: Script,
    state: Mutex<State>,
    wake: Notify,
    idle: Notify,
}

impl Turns {
    /// Those of a store; what is due is written for as long as the fleet lives.
    pub(super) fn start(shelf: Shelf) -> Arc<Turns> {
        let turns = Arc::new(Turns {
            shelf,
            ask: Script::new(ASK),
            tell: Script::new(TELL),
            state: Mutex::default(),
            wake: Notify::new(),
            idle: Notify::new(),
        });
        let (own, mut risen) = (Arc::clone(&turns), turns.shelf.risen());
        let witness = Arc::downgrade(&turns);
        turns.shelf.testify(move |time| {
            let own = witness.upgrade();
            own.is_none_or(|own| own.has_told(time))
        });
        turns.shelf.spawn(async move {
            let (mut anew, mut again) = (true, Again::default());
            loop {
                if anew {
                    own.claim_anew(*risen.borrow_and_update());
                }
                own.work().await;
                let more = own.write_again(&mut again).await;
                own.idle.notify_waiters();
                if anew {
                    own.shelf.hurry();
                }
                anew = tokio::select! {
                    biased;
                    _ = risen.changed() => true,
                    () = own.wake.notified() => false,
                    () = tokio::time::sleep(more.unwrap_or_default()), if more.is_some() => false,
                };
            }
        });
        turns
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request wants its turn. To be ended, whatever comes of it.
    pub(super) fn enter(&self, claim: Claim) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let serial = state.next;
        let running = Running {
            claim,
            runs: false,
            reached: false,
        };
        state.running.insert(serial, running);
        serial
    }

    /// It runs: the store has said so, or nothing, in which case it is told.
    pub(super) fn runs(&self, serial: u64) {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(&serial) else {
            return;
        };
        running.runs = true;
        if !running.reached {
            let claim = running.claim.clone();
            state.due.insert(serial, (claim, Errand::Runs));
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Asks whether it may run, and claims its key if so.
    pub(super) async fn ask(&self, serial: u64, confirmed: Option<&str>) -> Said {
        let life = self.shelf.generation().filter(|_| self.shelf.is_up());
        let Some(life) = life else {
            return Said::Unheard;
        };
        let settling = self.shelf.is_settling(SETTLE);
        let Some(call) = self.call(serial) else {
            return Said::Unheard;
        };
        let call = call
            .word(confirmed.unwrap_or_default())
            .word(&*life)
            .number(self.shelf.deadline())
            .word(if settling { "look" } else { "take" });
        let Ok(answer) = self.shelf.run(&self.ask, &call).await else {
            return Said::Unheard;
        };
        let answer = items(answer);
        match text(answer.first()) {
            Some("mine") => Said::Mine,
            Some("runs") => Said::Runs(word(&answer, 1)),
            Some("wait") => Said::Settling,
            Some("other") => Said::Other,
            Some("lost") => Said::Lost(unknown(&answer)),
            Some("done") => Said::Done(unknown(&answer)),
            Some("flushed") if self.heard_another(&life).await => Said::Settling,
            _ => Said::Unheard,
        }
    }

    /// The claim's keys and its own words; from now on the store may know it.
    fn call(&self, serial: u64) -> Option<Call> {
        let claim = self.reach(serial)?;
        let keys = [
            self.shelf.key(&claim.place),
            self.shelf.key("replicas"),
            self.shelf.key("generation"),
        ];
        let words = self.words(keys, (serial, &claim));
        Some(words.number(millis(claim.span)))
    }

    fn reach(&self, serial: u64) -> Option<Claim> {
        let mut state = self.state();
        let running = state.running.get_mut(&serial)?;
        running.reached = true;
        Some(running.claim.clone())
    }

    fn words(
        &self,
        keys: impl IntoIterator<Item = String>,
        (serial, claim): (u64, &Claim),
    ) -> Call {
        let instance = self.shelf.instance();
        Call::on(keys)
            .word(format!("{instance}:{serial}"))
            .word(instance)
            .word(claim.request.as_str())
            .word(claim.correlation_id.as_str())
    }

    /// Waits, not for long, until this replica has heard that the store began anew.
    async fn heard_another(&self, life: &Arc<str>) -> bool {
        self.shelf.hurry();
        let heard = async {
            while self.shelf.generation().as_ref() == Some(life) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(CATCH_UP, heard).await.is_ok()
    }

    /// The guard's record of it is in the store: where the outcome is unknown, the guard says so.
    pub(super) fn guarded(&self, serial: u64) {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(&serial) else {
            return;
        };
        running.claim.span = Duration::ZERO;
        let claim = running.claim.clone();
        state.due.insert(serial, (claim, Errand::Runs));
        drop(state);
        self.wake.notify_one();
    }

    /// It has ended so.
    pub(super) fn end(&self, serial: u64, end: End) {
        let mut state = self.state();
        let Some(running) = state.running.remove(&serial) else {
            return;
        };
        if matches!(end, End::Free) && !running.reached {
            state.due.remove(&serial);
            return;
        }
        state.owe(serial, running.claim, end);
        drop(state);
        self.wake.notify_one();
    }

    /// Everything that runs is due: the store may have been away, or have lost it.
    fn claim_anew(&self, time: u64) {
        let mut state = self.state();
        let State { running, due, .. } = &mut *state;
        // Who only waits claims nothing: another may have it.
        for (serial, running) in running.iter().filter(|(_, running)| running.runs) {
            due.insert(*serial, (running.claim.clone(), Errand::Runs));
        }
        state.owed = state.due.keys().next_back().copied();
        state.caught = Some(time);
    }

    /// Whether the store has heard all that ran here when it came into use for that time.
    fn has_told(&self, time: u64) -> bool {
        let state = self.state();
        let told = |serial: Option<u64>| serial.is_none_or(|serial| Some(serial) > state.owed);
        let first = state.due.keys().next().copied();
        let claims = told(state.telling) && told(first);
        state.caught == Some(time) && claims && state.life == self.shelf.generation()
    }

    fn next(&self) -> Option<(u64, (Claim, Errand))> {
        let mut state = self.state();
        let next = state.next_due();
        state.telling = next.as_ref().map(|(serial, _)| *serial);
        next
    }

    /// An answer is in the store.
    pub(super) fn wrote(&self, name: &str, sealed: &[u8]) {
        let stands = (clock::now(), KEPT_FOR);
        self.state().lately.keep(name, sealed, stands);
    }

    /// Writes the next of the latest answers into a store that began anew. What another has written there meanwhile
    /// stays. How soon there is more to do: never where all is there, or where the store is away, whose return is heard.
    async fn write_again(&self, again: &mut Again) -> Option<Duration> {
        let life = self.shelf.generation();
        {
            let mut state = self.state();
            if state.life.is_none() || state.life == life {
                state.life = life;
                return None;
            }
            if again.life != life {
                let rest = state.lately.all(clock::now());
                let life = life.clone();
                *again = Again { life, rest };
            }
        }
        let piece = again.piece(PIECE);
        let write = piece.iter().map(|one| {
            let left = one.until.saturating_duration_since(clock::now());
            let lasts = (left, PIECE_TAKES);
            self.shelf.values().add(&one.name, &one.sealed, lasts)
        });
        let mut risen = self.shelf.risen();
        let written = tokio::select! {
            written = join_all(write) => written,
            // First it hears what runs.
            _ = risen.changed() => return Some(Duration::ZERO),
        };
        let is_lost = |done: &_| !matches!(done, Ok(()) | Err(Lost::Refused(_)));
        if written.iter().any(is_lost) {
            return self.shelf.is_up().then_some(TRY_AGAIN);
        }
        let count = piece.len();
        again.rest.drain(..count);
        if !again.rest.is_empty() {
            return Some(Duration::ZERO);
        }
        self.state().life = life;
        self.shelf.hurry();
        None
    }

    async fn work(&self) {
        while self.shelf.is_up() {
            let Some((serial, (claim, errand))) = self.next() else {
                return;
            };
            let done = self.do_errand((serial, &claim), &errand).await;
            let mut state = self.state();
            state.telling = None;
            match done {
                Ok(()) => {}
                Err(Lost::Refused(why)) => {
                    tracing::warn!(why, "the shared store refuses the claim of a key");
                }
                Err(_) => {
                    state.put_back(serial, claim, errand);
                    return;
                }
            }
        }
    }

    async fn do_errand(&self, (serial, claim): (u64, &Claim), errand: &Errand) -> Result<(), Lost> {
        let (state, span, why) = match errand {
            Errand::Runs => {
                self.reach(serial);
                ("run", claim.span, "")
            }
            Errand::Ended(End::Free) => ("free", Duration::ZERO, ""),
            Errand::Ended(End::Answer(name, sealed)) => {
                self.shelf.values().set(name, sealed, KEPT_FOR).await?;
                self.wrote(name, sealed);
                ("free", Duration::ZERO, "")
            }
            Errand::Ended(End::Done(why)) => ("done", KEPT_FOR, why.as_str()),
            Errand::Ended(End::Lost(why)) => ("lost", claim.span.max(HEARSAY), why.as_str()),
        };
        let call = self
            .words([self.shelf.key(&claim.place)], (serial, claim))
            .word(state)
            .number(millis(span))
            .word(why)
            .number(self.shelf.deadline());
        let told = self.shelf.run(&self.tell, &call).await?;
        match number(Some(&told)) {
            Some(1) => Ok(()),
            _ => Err(Lost::Late),
        }
    }

    /// Waits until everything so far is in the store, or the store is away.
    pub(super) async fn flush(&self) {
        let told = async {
            loop {
                let idle = self.idle.notified();
                if !self.shelf.is_up() || self.state().due.is_empty() {
                    return;
                }
                self.wake.notify_one();
                let look_again = Duration::from_millis(40);
                tokio::time::timeout(look_again, idle).await.ok();
            }
        };
        tokio::time::timeout(LONGEST_FLUSH, told).await.ok();
    }
}
