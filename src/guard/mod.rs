//! The duplicate guard: a create whose outcome nobody knows is not sent a second time.
//!
//! A create begins with a [`Ticket`], taken before anything is sent, and ends with what became of
//! it. Where that is unknown, the same request is refused for a window, or until somebody has
//! looked. Equal requests without an unknown outcome pass: two people may send the same text.
//! Beside it [`Answers`] keeps what was answered under an `Idempotency-Key`. It reads no clock and
//! no request; the proxy calls it, `live` owns it, and a reload changes its bounds alone.

mod answers;
mod backlog;
mod claimed;
mod digest;
mod due;
mod elsewhere;
mod everywhere;
mod file;
mod key;
mod lately;
mod memory;
mod owner;
mod record;
mod recorded;
mod stored;
#[cfg(test)]
mod tests;
mod ticket;
mod told;
mod turns;

pub use answers::{Answers, Claim, KEPT_FOR, LONGEST_BODY, UnknownAnswer};
pub use digest::{Digest, Parts};
pub use file::StateFileError;
pub use key::{Account, Create, CreateKey, Scope};
pub use memory::Bounds;
pub use owner::Owner;
pub use record::{Begin, Cover, Held, HeldView, LONGEST_WINDOW, Outcome};
pub use recorded::{Asking, Recorded, Turn, Turned};
pub use stored::StoredAnswer;
pub use ticket::Ticket;

use crate::clock::{Instant, SystemTime};
use elsewhere::Elsewhere;
use file::Journal;
use memory::{Change, Table};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use ticket::Place;
use tokio::sync::oneshot;

/// What the state file says to a change once it is safe there, or why it is not.
type Stored = oneshot::Receiver<Result<(), Arc<str>>>;

/// The records of all creates, shared by every worker; a clone is the same guard.
#[derive(Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

/// What tickets and guard have in common.
pub(super) struct Shared {
    table: Mutex<Table>,
    journal: Option<Journal>,
    /// Where replicas share their records.
    elsewhere: OnceLock<Arc<Elsewhere>>,
}

impl Guard {
    /// A guard whose records end with the process.
    pub fn in_memory(bounds: Bounds) -> Guard {
        Guard::of(Table::new(bounds), None)
    }

    /// A guard whose records are in the file at `path` before a create goes out. Whatever was in
    /// flight there when the last process ended is of unknown outcome, and its window begins now.
    /// Blocks while the file is read and checked.
    ///
    /// # Errors
    /// The file cannot be read or written, is damaged, is no state file, or another process has it.
    pub fn open(
        path: &Path,
        bounds: Bounds,
        now: Instant,
        wall: SystemTime,
    ) -> Result<Guard, StateFileError> {
        Guard::restore(file::open(path)?, bounds, now, wall)
    }

    fn restore(
        opened: file::Opened,
        bounds: Bounds,
        now: Instant,
        wall: SystemTime,
    ) -> Result<Guard, StateFileError> {
        let mut table = Table::restored(bounds, opened.rows, now, wall);
        let journal = Journal::start(opened.writer, table.take_changes())?;
        Ok(Guard::of(table, Some(journal)))
    }

    fn of(table: Table, journal: Option<Journal>) -> Guard {
        let table = Mutex::new(table);
        Guard {
            shared: Arc::new(Shared {
                table,
                journal,
                elsewhere: OnceLock::new(),
            }),
        }
    }

    /// A create is about to be sent. With a state file, its record is on disk when this returns, and
    /// where replicas share, they know of it; cancelled before, it leaves none.
    ///
    /// # Errors
    /// An earlier equal create may have been carried out: this one must not go out now.
    pub async fn begin(&self, key: CreateKey, begin: Begin<'_>) -> Result<Ticket, Box<Held>> {
        if begin.window.is_zero() {
            return Ok(Ticket::without(Cover::Off));
        }
        let elsewhere = self.shared.elsewhere.get();
        if let Some(elsewhere) = elsewhere
            && elsewhere.is_ready().await
        {
            return self.begin_everywhere(elsewhere, key, begin).await;
        }
        let (serial, stored) = self.shared.change_and_hear(|t| t.begin(key, &begin));
        let Some(serial) = serial? else {
            tracing::warn!(
                correlation_id = begin.correlation_id,
                upstream = begin.upstream,
                "the duplicate guard is full: this create goes out unguarded"
            );
            return Ok(Ticket::without(Cover::NoRoom));
        };
        let mut ticket = Ticket {
            cover: match elsewhere {
                Some(_) => Cover::Alone,
                None => Cover::Kept,
            },
            place: Some(Place {
                shared: Arc::clone(&self.shared),
                key,
                serial,
            }),
            issued: false,
        };
        if let Some(stored) = stored {
            ticket.cover = ticket.cover.less(cover(stored.await, &begin));
            // While the disk was written, an equal create may have met its end.
            let meanwhile = |t: &mut Table| t.held(&key, begin.now, begin.wall);
            if let Some(held) = self.shared.change(meanwhile) {
                return Err(Box::new(held));
            }
        }
        ticket.issued = true;
        Ok(ticket)
    }

    /// Whether an equal create is under way, and none is held.
    pub fn is_under_way(&self, key: &CreateKey) -> bool {
        self.shared.change(|table| table.is_under_way(key))
    }

    /// Every hold, the oldest first.
    pub fn held(&self, now: Instant, wall: SystemTime) -> Vec<HeldView> {
        self.shared.change(|table| {
            table.tidy(now);
            table.views(now, wall)
        })
    }

    /// Lifts what is held under that public id or that correlation id. False: there is no such hold.
    pub fn lift(&self, name: &str) -> bool {
        self.shared.change(|table| table.lift(name)) > 0
    }

    /// Ends what has run out; to be called every second or so.
    pub fn sweep(&self, now: Instant) {
        self.shared.change(|table| table.tidy(now));
    }

    /// Other bounds from now on; what is kept stays.
    pub fn rebound(&self, bounds: Bounds) {
        self.shared.change(|table| table.rebound(bounds));
    }

    /// How many records there are, in flight and held, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        self.shared.change(|table| table.size())
    }

    /// Waits until the state file holds everything so far, and other replicas can know it; true if
    /// the file does, or if there is none.
    pub async fn flush(&self) -> bool {
        self.tell_everywhere().await;
        match self.shared.change_and_hear(|_| ()).1 {
            Some(stored) => matches!(stored.await, Ok(Ok(()))),
            None => true,
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard(..)")
    }
}

impl Shared {
    /// Changes the table; the file follows in the same order.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let out = change(&mut table);
        let changes = self.taken(&mut table);
        if let Some(journal) = &self.journal
            && !changes.is_empty()
        {
            journal.send(changes, None);
        }
        out
    }

    /// Looks at the table; what changes is told nobody yet.
    fn look<T>(&self, look: impl FnOnce(&mut Table) -> T) -> T {
        look(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the file is to be told; other replicas are told here.
    fn taken(&self, table: &mut Table) -> Vec<Change> {
        let changes = table.take_changes();
        if let Some(elsewhere) = self.elsewhere.get()
            && !changes.is_empty()
        {
            elsewhere.note(&changes);
        }
        changes
    }

    /// The same, and a way to hear when the file has it.
    fn change_and_hear<T>(&self, change: impl FnOnce(&mut Table) -> T) -> (T, Option<Stored>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let out = change(&mut table);
        let changes = self.taken(&mut table);
        let stored = self.journal.as_ref().map(|journal| {
            let (done, stored) = oneshot::channel();
            journal.send(changes, Some(done));
            stored
        });
        (out, stored)
    }
}

fn cover(
    stored: Result<Result<(), Arc<str>>, oneshot::error::RecvError>,
    begin: &Begin<'_>,
) -> Cover {
    let why = match stored {
        Ok(Ok(())) => return Cover::Kept,
        Ok(Err(why)) => why,
        Err(_) => Arc::from("its writer has ended"),
    };
    tracing::error!(
        correlation_id = begin.correlation_id,
        upstream = begin.upstream,
        error = &*why,
        "the state file cannot be written: a crash would lose the record of this create"
    );
    Cover::UntilCrash
}
