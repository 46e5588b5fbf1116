//! The records of creates, in memory: what stands, what is held, what has run out.
//!
//! It decides from `now` alone and never forgets a record before its time: none is kept without
//! need, so there is nothing to give up for a newcomer, and a full table says so instead. Each
//! change is noted for the state file in the order in which it was made. Called by the guard, under
//! its lock.

use super::key::CreateKey;
use super::record::{
    Begin, DROPPED, Held, HeldView, Hold, LONGEST_VENDOR_ID, LONGEST_WHAT, LONGEST_WINDOW, Outcome,
    Record, Row, Standing, cost, cut, restored, shown, told,
};
use crate::clock::{Instant, SystemTime};
use std::collections::{BTreeSet, HashMap};

const DIED: &str = "the proxy's process ended before an answer came";
const FOLLOWED_DONE: &str =
    "the client left before the answer, which then said that the request was carried out";
const CUT: &str = "the answer, whose head said that the request was carried out, broke off";

/// How much the guard keeps at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Creates in flight and held ones together.
    pub entries: usize,
    /// Bytes, reckoned generously.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            entries: 100_000,
            bytes: 64 << 20,
        }
    }
}

/// What the state file is to hold from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// That record stands so.
    Put(u64, Box<Row>),
    /// The client of that record has left; the row says since when. Its attempt is under way.
    Followed(u64, Box<Row>),
    /// That record is gone.
    Remove(u64, CreateKey),
}

/// All records.
#[derive(Debug, Default)]
pub(super) struct Table {
    bounds: Bounds,
    by_key: HashMap<CreateKey, Vec<Record>>,
    /// When each held record ends.
    ends: BTreeSet<(Instant, u64, CreateKey)>,
    /// Dropped without a word since the last look at the clock.
    dropped: Vec<(CreateKey, u64)>,
    entries: usize,
    bytes: usize,
    next: u64,
    /// Changes since they were last taken, where a file is kept.
    changes: Option<Vec<Change>>,
}

impl Table {
    /// Whether that create is under way and nothing is held of it yet.
    pub(super) fn is_under_way(&self, key: &CreateKey) -> bool {
        let records = self.by_key.get(key);
        let in_flight = |record: &Record| matches!(record.standing, Standing::InFlight);
        records.is_some_and(|records| !records.is_empty() && records.iter().all(in_flight))
    }

    pub(super) fn new(bounds: Bounds) -> Table {
        Table {
            bounds,
            ..Table::default()
        }
    }

    /// A table of what the file holds: what was in flight there is unknown from now on.
    pub(super) fn restored(
        bounds: Bounds,
        rows: Vec<(u64, CreateKey, Row)>,
        now: Instant,
        wall: SystemTime,
    ) -> Table {
        let mut table = Table {
            changes: Some(Vec::new()),
            ..Table::new(bounds)
        };
        for (serial, key, row) in rows {
            table.next = table.next.max(serial.saturating_add(1));
            let record = restored(serial, &row, now, wall);
            table.admit(key, record);
            match row.hold {
                None => table.hold(key, serial, now, DIED.to_owned()),
                Some(_) => table.note(key, serial),
            }
        }
        table.tidy(now);
        table
    }

    pub(super) fn rebound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// What the file must be told, in order.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.changes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// A create is to go out: its serial, or none for want of room.
    pub(super) fn begin(
        &mut self,
        key: CreateKey,
        begin: &Begin<'_>,
    ) -> Result<Option<u64>, Box<Held>> {
        self.tidy(begin.now);
        if let Some(confirmed) = begin.confirmed {
            self.lift_of(key, confirmed);
        }
        if let Some(held) = self.held(&key, begin.now, begin.wall) {
            return Err(Box::new(held));
        }
        Ok(self.admit_new(key, begin))
    }

    /// Takes in a create whatever else there is: its serial, or none for want of room.
    pub(super) fn admit_new(&mut self, key: CreateKey, begin: &Begin<'_>) -> Option<u64> {
        let cost = cost(begin.correlation_id, begin.upstream);
        if self.entries >= self.bounds.entries || self.bytes + cost > self.bounds.bytes {
            return None;
        }
        let serial = self.next;
        self.next += 1;
        let record = Record {
            serial,
            correlation_id: begin.correlation_id.to_owned(),
            upstream: begin.upstream.to_owned(),
            window: begin.window.min(LONGEST_WINDOW),
            begun: begin.wall,
            anchor: (begin.now, begin.wall),
            standing: Standing::InFlight,
        };
        self.admit(key, record);
        self.note(key, serial);
        Some(serial)
    }

    /// Why the same create may not go out, if so.
    pub(super) fn held(&self, key: &CreateKey, now: Instant, wall: SystemTime) -> Option<Held> {
        let records = self.by_key.get(key)?;
        let first = records.iter().find(|record| record.holds())?;
        let holds = records.iter().filter(|record| record.holds());
        let until = holds.map(|record| record.until(now)).max().unwrap_or(now);
        Some(shown(key, first, until, (now, wall)))
    }

    /// What became of an attempt.
    pub(super) fn settle(&mut self, key: CreateKey, serial: u64, outcome: Outcome, now: Instant) {
        let Some(record) = self.find(key, serial) else {
            return;
        };
        match (outcome, &record.standing) {
            (Outcome::Unknown { why }, _) => self.hold(key, serial, now, why),
            (Outcome::Cut { vendor_id }, _) => {
                let hold = Hold {
                    since: record.wall(now),
                    until: now + record.window,
                    what: CUT.to_owned(),
                    vendor_id: vendor_id.map(|id| cut(id, LONGEST_VENDOR_ID)),
                };
                self.stand(key, serial, hold);
            }
            (Outcome::Processed { vendor_id }, &Standing::Followed { since, until }) => {
                let since = if until > now { since } else { record.wall(now) };
                let until = if until > now {
                    until
                } else {
                    now + record.window
                };
                let hold = Hold {
                    since,
                    until,
                    what: FOLLOWED_DONE.to_owned(),
                    vendor_id: vendor_id.map(|id| cut(id, LONGEST_VENDOR_ID)),
                };
                self.stand(key, serial, hold);
            }
            (Outcome::Processed { .. } | Outcome::NeverProcessed, _) => self.remove(key, serial),
        }
    }

    /// The client of an attempt has left; the attempt goes on.
    pub(super) fn left(&mut self, key: CreateKey, serial: u64, now: Instant) {
        if let Some(record) = self.find(key, serial)
            && record.standing == Standing::InFlight
        {
            record.standing = Standing::Followed {
                since: record.wall(now),
                until: now + record.window,
            };
            self.note(key, serial);
        }
    }

    /// A ticket was dropped without a word, at some time since the last look at the clock.
    pub(super) fn dropped(&mut self, key: CreateKey, serial: u64) {
        if let Some(record) = self.find(key, serial) {
            record.standing = Standing::Dropped;
            self.dropped.push((key, serial));
        }
    }

    /// A ticket was never issued: nothing was sent under it.
    pub(super) fn discard(&mut self, key: CreateKey, serial: u64) {
        self.remove(key, serial);
    }

    /// Begins the window of what was dropped, ends what has run out.
    pub(super) fn tidy(&mut self, now: Instant) {
        for (key, serial) in std::mem::take(&mut self.dropped) {
            self.hold(key, serial, now, DROPPED.to_owned());
        }
        while let Some(&(until, serial, key)) = self.ends.first()
            && until <= now
        {
            self.remove(key, serial);
        }
    }

    /// Lifts every hold of that public id or correlation id; how many there were.
    pub(super) fn lift(&mut self, name: &str) -> usize {
        let of_name = |(key, records): (&CreateKey, &Vec<Record>)| {
            let by_id = key.public_id() == name;
            let named = move |record: &&Record| by_id || record.correlation_id == name;
            let held = records.iter().filter(|record| record.holds());
            let serials = held.filter(named).map(|record| record.serial);
            serials.map(|serial| (*key, serial)).collect::<Vec<_>>()
        };
        let lifted: Vec<_> = self.by_key.iter().flat_map(of_name).collect();
        for &(key, serial) in &lifted {
            self.remove(key, serial);
        }
        lifted.len()
    }

    /// Every hold, the oldest first.
    pub(super) fn views(&self, now: Instant, wall: SystemTime) -> Vec<HeldView> {
        self.views_of(now, wall, |_| true)
    }

    /// Every hold that is picked by its serial, the oldest first.
    pub(super) fn views_of(
        &self,
        now: Instant,
        wall: SystemTime,
        picked: impl Fn(u64) -> bool,
    ) -> Vec<HeldView> {
        let all = self
            .by_key
            .iter()
            .flat_map(|(key, records)| records.iter().map(move |record| (key, record)));
        let mut held: Vec<_> = all
            .filter(|(_, record)| record.holds() && picked(record.serial))
            .collect();
        held.sort_by_key(|(_, record)| record.serial);
        let view = |(key, record): (&CreateKey, &Record)| HeldView {
            upstream: record.upstream.clone(),
            followed: matches!(record.standing, Standing::Followed { .. }),
            held: shown(key, record, record.until(now), (now, wall)),
        };
        held.into_iter().map(view).collect()
    }

    /// Records, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries, self.bytes)
    }

    /// Keeps account of changes from now on.
    pub(super) fn note_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// The records that hold a create.
    pub(super) fn holding(&self, key: &CreateKey) -> Vec<u64> {
        let records = self.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        let holding = records.iter().filter(|record| record.holds());
        holding.map(|record| record.serial).collect()
    }

    /// Every record as it is to be told, and whether it is followed.
    pub(super) fn rows(&self) -> Vec<(u64, Row, bool)> {
        let all = self
            .by_key
            .iter()
            .flat_map(|(key, records)| records.iter().map(move |r| (key, r)));
        all.map(|(key, record)| {
            let (row, followed) = told(key, record);
            (record.serial, row, followed)
        })
        .collect()
    }

    /// Lifts what is held of a create under that correlation id.
    pub(super) fn lift_of(&mut self, key: CreateKey, correlation_id: &str) {
        let records = self.by_key.get(&key).map(Vec::as_slice).unwrap_or_default();
        let named = |record: &&Record| record.holds() && record.correlation_id == correlation_id;
        let serials: Vec<_> = records.iter().filter(named).map(|r| r.serial).collect();
        for serial in serials {
            self.remove(key, serial);
        }
    }

    fn find(&mut self, key: CreateKey, serial: u64) -> Option<&mut Record> {
        let records = self.by_key.get_mut(&key)?;
        records.iter_mut().find(|record| record.serial == serial)
    }

    fn admit(&mut self, key: CreateKey, record: Record) {
        self.entries += 1;
        self.bytes += record.cost();
        if let Standing::Held(hold) = &record.standing {
            self.ends.insert((hold.until, record.serial, key));
        }
        self.by_key.entry(key).or_default().push(record);
    }

    /// Refuses the same create for the whole window, from now on.
    fn hold(&mut self, key: CreateKey, serial: u64, now: Instant, what: String) {
        if let Some(record) = self.find(key, serial) {
            let hold = Hold {
                since: record.wall(now),
                until: now + record.window,
                what: cut(what, LONGEST_WHAT),
                vendor_id: None,
            };
            self.stand(key, serial, hold);
        }
    }

    fn stand(&mut self, key: CreateKey, serial: u64, hold: Hold) {
        self.ends.insert((hold.until, serial, key));
        if let Some(record) = self.find(key, serial) {
            record.standing = Standing::Held(hold);
        }
        self.note(key, serial);
    }

    fn remove(&mut self, key: CreateKey, serial: u64) {
        let Some(records) = self.by_key.get_mut(&key) else {
            return;
        };
        let Some(place) = records.iter().position(|record| record.serial == serial) else {
            return;
        };
        let gone = records.remove(place);
        if records.is_empty() {
            self.by_key.remove(&key);
        }
        if let Standing::Held(hold) = &gone.standing {
            self.ends.remove(&(hold.until, serial, key));
        }
        self.entries -= 1;
        self.bytes -= gone.cost();
        if let Some(changes) = &mut self.changes {
            changes.push(Change::Remove(serial, key));
        }
    }

    /// Tells the file, and other replicas, how the record stands.
    fn note(&mut self, key: CreateKey, serial: u64) {
        if self.changes.is_none() {
            return;
        }
        let told = self.find(key, serial).map(|record| told(&key, record));
        if let (Some((row, followed)), Some(changes)) = (told, &mut self.changes) {
            let row = Box::new(row);
            changes.push(match followed {
                true => Change::Followed(serial, row),
                false => Change::Put(serial, row),
            });
        }
    }
}
