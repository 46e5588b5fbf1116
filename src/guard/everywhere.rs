//! The guard where replicas share it: each create is asked of the records of all before it goes out, and of this
//! replica's own where the store gives no answer.
//!
//! The store outranks this replica's memory for what both know: a hold that it no longer has was lifted at another
//! replica. What it does not know yet holds here all the same. Called in place of the guard's own steps.

use super::elsewhere::{Answer, Elsewhere};
use super::key::CreateKey;
use super::memory::Table;
use super::record::{Begin, Cover, Held, HeldView};
use super::ticket::{Place, Ticket};
use super::{Guard, cover};
use crate::clock::{self, Instant, SystemTime};
use crate::fleet::Shelf;
use std::sync::Arc;

impl Guard {
    /// Shares the records with other replicas from now on. Called once.
    pub fn share(&self, shelf: Shelf) {
        let elsewhere = Arc::new(Elsewhere::new(shelf));
        self.shared.look(Table::note_changes);
        let elsewhere = self.shared.elsewhere.get_or_init(|| elsewhere);
        elsewhere.start(Arc::downgrade(&self.shared));
    }

    /// A create is about to be sent, and the store is in use.
    pub(super) async fn begin_everywhere(
        &self,
        elsewhere: &Elsewhere,
        key: CreateKey,
        begin: Begin<'_>,
    ) -> Result<Ticket, Box<Held>> {
        let admitted = self.shared.change_and_hear(|table| {
            let (known, held) = sift(table, elsewhere, (&key, &begin));
            match held {
                Some(held) => Err(Box::new(held)),
                None => Ok(((known, elsewhere.life()), table.admit_new(key, &begin))),
            }
        });
        let (((known, life), serial), stored) = (admitted.0?, admitted.1);
        let Some(serial) = serial else {
            return Ok(Ticket::without(Cover::NoRoom));
        };
        let place = Place {
            shared: Arc::clone(&self.shared),
            key,
            serial,
        };
        let mut ticket = Ticket {
            cover: Cover::Kept,
            place: Some(place),
            issued: false,
        };
        let answer = elsewhere.begin((&key, serial), &begin, life.clone());
        match answer.await {
            Answer::Held(held) => return Err(held),
            Answer::Went if elsewhere.life() == life => self.shared.change(|table| {
                for serial in known {
                    table.discard(key, serial);
                }
            }),
            // A store that began anew meanwhile may not have heard yet what holds it here.
            Answer::Went => {}
            Answer::Unheard => ticket.cover = Cover::Alone,
        }
        if let Some(stored) = stored {
            ticket.cover = ticket.cover.less(cover(stored.await, &begin));
        }
        // Meanwhile an equal create may have met its end here.
        let meanwhile = |table: &mut Table| table.held(&key, begin.now, begin.wall);
        if let Some(held) = self.shared.change(meanwhile) {
            return Err(Box::new(held));
        }
        ticket.issued = true;
        Ok(ticket)
    }

    /// Every hold of every replica, the oldest first; this one's alone where the store gives no answer.
    pub async fn held_everywhere(&self, now: Instant, wall: SystemTime) -> Vec<HeldView> {
        let Some(elsewhere) = self.shared.elsewhere.get() else {
            return self.held(now, wall);
        };
        let Ok(listed) = elsewhere.list().await else {
            return self.held(now, wall);
        };
        let mut views: Vec<HeldView> = listed.into_iter().map(|(view, _)| view).collect();
        views.extend(self.own(elsewhere, now, wall));
        views
    }

    /// The same, as it was when this was last asked: for a page that asks again and again.
    pub fn held_lately(&self, now: Instant, wall: SystemTime) -> Vec<HeldView> {
        let elsewhere = self.shared.elsewhere.get();
        let Some(elsewhere) = elsewhere.filter(|elsewhere| elsewhere.is_up()) else {
            return self.held(now, wall);
        };
        let mut views = elsewhere.lately();
        views.retain(|view| view.held.until > wall || view.followed);
        views.extend(self.own(elsewhere, now, wall));
        views
    }

    /// What the store does not know yet.
    fn own(&self, elsewhere: &Elsewhere, now: Instant, wall: SystemTime) -> Vec<HeldView> {
        self.shared.change(|table| {
            table.tidy(now);
            table.views_of(now, wall, |serial| !elsewhere.has(serial))
        })
    }

    /// Lifts what is held under that public id or that correlation id, at every replica. False: there is no such hold.
    pub async fn lift_everywhere(&self, name: &str) -> bool {
        let mut any = self.lift(name);
        if let Some(elsewhere) = self.shared.elsewhere.get()
            && let Ok(listed) = elsewhere.list().await
        {
            for (view, lifting) in listed {
                if view.held.id == name || view.held.correlation_id == name {
                    any |= elsewhere.lift(&lifting).await;
                }
            }
        }
        any
    }

    /// Waits until other replicas can know everything so far.
    pub(super) async fn tell_everywhere(&self) {
        if let Some(elsewhere) = self.shared.elsewhere.get() {
            let patience = clock::Duration::from_secs(1);
            tokio::time::timeout(patience, elsewhere.flush()).await.ok();
        }
    }
}

/// The holds of a create that the store knows too, and what holds it that the store does not know yet.
fn sift(
    table: &mut Table,
    elsewhere: &Elsewhere,
    (key, begin): (&CreateKey, &Begin<'_>),
) -> (Vec<u64>, Option<Held>) {
    table.tidy(begin.now);
    if let Some(confirmed) = begin.confirmed {
        table.lift_of(*key, confirmed);
    }
    let (known, own): (Vec<u64>, Vec<u64>) = table
        .holding(key)
        .into_iter()
        .partition(|serial| elsewhere.has(*serial));
    let held = match own.is_empty() {
        true => None,
        false => table.held(key, begin.now, begin.wall),
    };
    (known, held)
}
