//! A store under other settings: what its routes keep, how much, and by which times.
//!
//! A reload keeps what is kept; how long it is of use is said anew. What an answer was doubted for stays.

use super::{Shelf, Store};
use crate::cache::kept::Kept;
use crate::cache::verdict::Settings;
use crate::clock;
use std::sync::Arc;

impl Store {
    /// The routes that keep answers from now on, under which settings, and the bound of all. What others
    /// kept goes; what is kept goes by the times that hold now.
    pub(in crate::cache) fn configure(&mut self, most: usize, routes: &[(&str, &Settings)]) {
        self.most = most;
        let known = |route: &str| routes.iter().any(|(name, _)| *name == route);
        self.remove_where(|slot| !known(&slot.route));
        self.flights.retain(|_, flights| {
            flights.retain(|flight| {
                let stays = known(&flight.home.route);
                if !stays {
                    flight.make_void();
                }
                stays
            });
            !flights.is_empty()
        });
        self.shelves.retain(|route, _| known(route));
        let mut moved = Vec::new();
        for (route, settings) in routes {
            match self.shelves.get_mut(*route) {
                Some(shelf) => {
                    if !shelf.settings.times_as(settings) {
                        moved.push(*route);
                    }
                    shelf.settings = (*settings).clone();
                }
                None => {
                    self.shelves.insert(Arc::from(*route), Shelf::new(settings));
                }
            }
        }
        self.retime(&moved);
        self.make_room();
    }

    /// What these routes keep goes by the times that hold now.
    fn retime(&mut self, routes: &[&str]) {
        let (now, wall) = (clock::now(), clock::wall());
        let mut gone = Vec::new();
        for (key, slot) in &mut self.slots {
            let shelf = self.shelves.get(&slot.route);
            let Some(shelf) = shelf.filter(|_| routes.contains(&&*slot.route)) else {
                continue;
            };
            for entry in &mut slot.variants {
                match entry.under(&shelf.settings, now, wall) {
                    Some(same) => *entry = Arc::new(same),
                    None => gone.push(*key),
                }
            }
        }
        for key in gone {
            self.remove(&key);
        }
    }

    /// Another replica's answer, by the times that hold here.
    pub(in crate::cache) fn adopt(&self, entry: &Kept) -> Option<Arc<Kept>> {
        let shelf = self.shelves.get(&entry.head.home.route)?;
        let entry = entry.under(&shelf.settings, clock::now(), clock::wall())?;
        Some(self.doubts.mark(Arc::new(entry)))
    }
}
