//! Records of creates where every replica sees them.
//!
//! A create is written there, by a script that also looks for others, before it is sent; what becomes
//! of it follows in the order in which it happened. What cannot be written now waits here, one entry
//! a record, and goes out when the store is back; after a flush everything is written anew. Nothing
//! fails for want of the store: the guard then decides by what this replica knows. Called by the
//! guard; the writing is done on the fleet's thread.

use super::Shared;
use super::backlog::{Backlog, Errand, Known};
use super::key::CreateKey;
use super::memory::Change;
use super::record::{Begin, Held, HeldView, LONGEST_WINDOW, Row};
use super::told::{BEGIN, LIST, PUT, REMOVE, Told, left, place};
use crate::clock::{self, Duration};
use crate::fleet::script::{Call, Script, items, number, text};
use crate::fleet::{Lost, Shelf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// Between two looks at an equal create that is under way elsewhere.
const LOOK_AGAIN: Duration = Duration::from_millis(40);
/// How long a create waits for this replica to find out that the store began anew, and to tell it what it knows; and
/// then for those that were alive before to have done so too.
const CATCH_UP: Duration = Duration::from_millis(250);
const SETTLE: Duration = Duration::from_millis(500);

/// What the store said to a create.
pub(super) enum Answer {
    /// It may go out, and is known there.
    Went,
    /// An equal one may have been carried out.
    Held(Box<Held>),
    /// Nothing.
    Unheard,
}

/// This replica's way to the records of all.
pub(super) struct Elsewhere {
    shelf: Shelf,
    begin: Script,
    put: Script,
    remove: Script,
    list: Script,
    backlog: Mutex<Backlog>,
    wake: Notify,
    idle: Notify,
    /// The holds of all as last listed, and whether somebody wants to see them anew.
    lately: Mutex<Vec<HeldView>>,
    wanted: AtomicBool,
}

impl Elsewhere {
    pub(super) fn new(shelf: Shelf) -> Elsewhere {
        Elsewhere {
            shelf,
            begin: Script::new(BEGIN),
            put: Script::new(PUT),
            remove: Script::new(REMOVE),
            list: Script::new(LIST),
            backlog: Mutex::default(),
            wake: Notify::new(),
            idle: Notify::new(),
            lately: Mutex::default(),
            wanted: AtomicBool::new(false),
        }
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store is in use, and knows everything from before its last loss.
    pub(super) fn is_up(&self) -> bool {
        let generation = self.shelf.generation();
        self.shelf.is_up() && generation.is_some() && self.backlog().generation == generation
    }

    /// The same, after a wait where the store has just come into use or begun anew: until this replica, and the
    /// others that were alive before, have told it what they know.
    pub(super) async fn is_ready(&self) -> bool {
        if self.shelf.is_up() && !self.is_up() {
            self.caught_up(None).await;
        }
        self.shelf.settled(SETTLE).await;
        self.is_up()
    }

    /// Waits, not for long, until this replica begins to tell a store that began anew what it knows.
    async fn caught_up(&self, before: Option<&Arc<str>>) {
        self.shelf.hurry();
        let caught_up = async {
            while !self.is_up() || self.shelf.generation().as_ref() == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(CATCH_UP, caught_up).await.ok();
    }

    /// The life of the store that [`has`](Self::has) is about; the same for as long as the table is locked.
    pub(super) fn life(&self) -> Option<Arc<str>> {
        self.backlog().generation.clone()
    }

    /// Whether the store knows that record as it stands here.
    pub(super) fn has(&self, serial: u64) -> bool {
        let backlog = self.backlog();
        let known = backlog.known.get(&serial) == Some(&Known::Surely);
        known && !backlog.due.contains_key(&serial)
    }

    /// Takes note of what changed here. A create that begins is told by [`begin`](Self::begin).
    pub(super) fn note(&self, changes: &[Change]) {
        let mut backlog = self.backlog();
        let mut any = false;
        for change in changes {
            match change {
                Change::Put(_, row) if row.hold.is_none() => continue,
                Change::Put(serial, row) => backlog.put(*serial, row, false),
                Change::Followed(serial, row) => backlog.put(*serial, row, true),
                Change::Remove(serial, key) => backlog.remove(*serial, *key),
            }
            any = true;
        }
        drop(backlog);
        if any {
            self.wake.notify_one();
        }
    }

    /// Asks a store of that life whether a create may go out, and writes it down if so.
    pub(super) async fn begin(
        &self,
        (key, serial): (&CreateKey, u64),
        begin: &Begin<'_>,
        mut life: Option<Arc<str>>,
    ) -> Answer {
        let window = begin.window.min(LONGEST_WINDOW);
        let told = Told::flying(begin, window, self.shelf.instance());
        let told = serde_json::to_vec(&told).unwrap_or_default();
        let (mut asked, mut anew) = (0, false);
        loop {
            let Some(generation) = life.clone() else {
                return Answer::Unheard;
            };
            self.backlog().asks(serial);
            let call = Call::on([
                self.shelf.key(&place(key)),
                self.shelf.key("creates"),
                self.shelf.key("replicas"),
                self.shelf.key("generation"),
            ])
            .word(self.id(serial))
            .word(told.clone())
            .word(begin.confirmed.unwrap_or_default())
            .word(&*generation)
            .number(self.shelf.deadline())
            .number(asked)
            .word(self.shelf.instance())
            .number(self.shelf.lease());
            let Ok(answer) = self.shelf.run(&self.begin, &call).await else {
                return Answer::Unheard;
            };
            let answer = items(answer);
            match text(answer.first()) {
                Some("went") => {
                    self.backlog().went(serial, &generation);
                    return Answer::Went;
                }
                Some("held") => {
                    self.backlog().stayed(serial, &generation);
                    return held(key, begin, &answer);
                }
                Some("wait") => {
                    asked = number(answer.get(1)).unwrap_or(0);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                word => {
                    self.backlog().stayed(serial, &generation);
                    if anew || word != Some("flushed") {
                        return Answer::Unheard;
                    }
                    anew = true;
                    self.caught_up(Some(&generation)).await;
                    self.shelf.settled(SETTLE).await;
                    life = self.life();
                }
            }
        }
    }

    /// Every hold that the store knows, with what it takes to lift it, the oldest first.
    pub(super) async fn list(&self) -> Result<Vec<(HeldView, Lifting)>, Lost> {
        let keys = [self.shelf.key("creates"), self.shelf.key("replicas")];
        let answer = items(self.shelf.run(&self.list, &Call::on(keys)).await?);
        let now = number(answer.first()).unwrap_or(0);
        let wall = clock::wall();
        let view = |three: &[crate::fleet::Value]| {
            let place = text(three.first())?.to_owned();
            let id = text(three.get(1))?.to_owned();
            let told: Told = serde_json::from_str(text(three.get(2))?).ok()?;
            let hex = place.rsplit(':').next().unwrap_or_default();
            let view = told.view(hex, now, wall);
            Some((view, Lifting { place, id }))
        };
        let rest = answer.get(1..).unwrap_or_default();
        let mut views: Vec<_> = rest.chunks(3).filter_map(view).collect();
        views.sort_by_key(|(view, _)| view.held.begun);
        let shown = views.iter().map(|(view, _)| view.clone()).collect();
        *self.lately.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(views)
    }

    /// The holds as they were listed last, which is about when this was last asked.
    pub(super) fn lately(&self) -> Vec<HeldView> {
        self.wanted.store(true, Relaxed);
        self.wake.notify_one();
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.clone()
    }

    /// Removes a record, whoever wrote it; whether it was there.
    pub(super) async fn lift(&self, lifting: &Lifting) -> bool {
        let call = Call::on([lifting.place.clone(), self.shelf.key("creates")]);
        let answer = self
            .shelf
            .run(&self.remove, &call.word(lifting.id.as_str()))
            .await;
        answer.is_ok_and(|gone| number(Some(&gone)) == Some(1))
    }

    /// Waits until everything so far is in the store, or the store is away.
    pub(super) async fn flush(&self) {
        while self.is_up() && !self.backlog().due.is_empty() {
            let idle = self.idle.notified();
            tokio::time::timeout(LOOK_AGAIN, idle).await.ok();
        }
    }

    /// Writes what is due, for as long as the guard and the fleet live.
    pub(super) fn start(self: &Arc<Self>, shared: Weak<Shared>) {
        let (own, mut risen) = (Arc::clone(self), self.shelf.risen());
        let witness = Arc::downgrade(self);
        self.shelf.testify(move |time| {
            let own = witness.upgrade();
            own.is_none_or(|own| own.has_told(time))
        });
        self.shelf.spawn(async move {
            let mut anew = true;
            loop {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                if anew {
                    let time = *risen.borrow_and_update();
                    own.catch_up(&shared, time);
                }
                own.work(&shared).await;
                drop(shared);
                if anew {
                    own.shelf.hurry();
                }
                if own.wanted.swap(false, Relaxed) {
                    own.list().await.ok();
                }
                own.idle.notify_waiters();
                anew = tokio::select! {
                    () = own.wake.notified() => false,
                    _ = risen.changed() => true,
                };
            }
        });
    }

    /// What the store does not know is due: all that this replica has, where the store began anew.
    fn catch_up(&self, shared: &Shared, time: u64) {
        let generation = self.shelf.generation();
        if generation.is_none() {
            return;
        }
        shared.look(|table| {
            let mut backlog = self.backlog();
            if backlog.generation != generation {
                backlog.known.clear();
                backlog.due.clear();
                backlog.generation = generation;
            }
            for (serial, row, followed) in table.rows() {
                if !backlog.known.contains_key(&serial) && !backlog.due.contains_key(&serial) {
                    backlog.put(serial, &row, followed);
                }
            }
            backlog.catch_up(time);
        });
    }

    /// Whether the store has heard all that this replica knew when it came into use for that time.
    fn has_told(&self, time: u64) -> bool {
        let backlog = self.backlog();
        backlog.has_told(time) && backlog.generation == self.shelf.generation()
    }

    async fn work(&self, shared: &Arc<Shared>) {
        while let Some((serial, errand)) = self.next() {
            let done = match &errand {
                Errand::Put { row, followed } => self.put(shared, (serial, row, *followed)).await,
                Errand::Remove(key) => self.forget(serial, key).await,
            };
            let mut backlog = self.backlog();
            backlog.writing = None;
            match done {
                Ok(()) => {}
                Err(Lost::Refused(why)) => {
                    tracing::warn!(why, "the shared store refuses the record of a create");
                }
                Err(_) => {
                    backlog.due.entry(serial).or_insert(errand);
                    return;
                }
            }
        }
    }

    fn next(&self) -> Option<(u64, Errand)> {
        if !self.shelf.is_up() {
            return None;
        }
        self.backlog().next()
    }

    async fn put(
        &self,
        shared: &Arc<Shared>,
        (serial, row, followed): (u64, &Row, bool),
    ) -> Result<(), Lost> {
        let Some(key) = CreateKey::from_hex(&row.key) else {
            return Ok(());
        };
        let (old, life) = {
            let backlog = self.backlog();
            let old = backlog.known.get(&serial) == Some(&Known::Surely);
            (old, backlog.generation.clone())
        };
        let told = Told::of(row, followed, self.shelf.instance());
        let left = left(row, clock::wall()).as_millis().to_string();
        let keys = [&*place(&key), "creates", "generation"];
        let call = Call::on(keys.map(|key| self.shelf.key(key)))
            .word(self.id(serial))
            .word(serde_json::to_vec(&told).unwrap_or_default())
            .word(left)
            .word(if old { "old" } else { "new" })
            .word(life.as_deref().unwrap_or_default());
        let answer = self.shelf.run(&self.put, &call).await?;
        match number(Some(&answer)) {
            // Lifted at another replica, which outranks what became of it here.
            Some(0) => {
                self.backlog().known.remove(&serial);
                shared.change(|table| table.discard(key, serial));
            }
            // The store began anew: nothing was lifted, and everything is told again.
            Some(2) => {
                self.shelf.hurry();
                return Err(Lost::Away);
            }
            _ => drop(self.backlog().known.insert(serial, Known::Surely)),
        }
        Ok(())
    }

    async fn forget(&self, serial: u64, key: &CreateKey) -> Result<(), Lost> {
        let call = Call::on([self.shelf.key(&place(key)), self.shelf.key("creates")]);
        let call = call.word(self.id(serial));
        self.shelf.run(&self.remove, &call).await?;
        self.backlog().known.remove(&serial);
        Ok(())
    }

    fn id(&self, serial: u64) -> String {
        format!("{}:{serial}", self.shelf.instance())
    }
}

/// What holds a create, as the store told it.
fn held(key: &CreateKey, begin: &Begin<'_>, answer: &[crate::fleet::Value]) -> Answer {
    let told = text(answer.get(1)).and_then(|text| serde_json::from_str::<Told>(text).ok());
    let left = number(answer.get(2)).map(Duration::from_millis);
    told.zip(left).map_or(Answer::Unheard, |(told, left)| {
        let held = told.held(&key.hex(), left, begin.wall);
        Answer::Held(Box::new(held))
    })
}

/// What it takes to lift one record in the store.
pub(super) struct Lifting {
    place: String,
    id: String,
}
