//! The store against a naive one: the same answers are found, and its sums are those of what it holds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::cache::{Freshness, Head, Place, Selecting, Wanted};
use crate::clock;
use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;

fn entry(route: &str, path: &str, size: usize) -> Arc<Kept> {
    let fields = HeaderMap::new();
    let place = Place {
        tls: false,
        authority: "a",
        path,
    };
    let key = Key::of(&Wanted {
        route,
        place,
        host: None,
        query: None,
        injected: None,
        client: None,
        fields: &fields,
        ignore: &[],
        replaced: None,
        correlation: &http::HeaderName::from_static("x-id"),
    });
    let home = Home {
        route: Arc::from(route),
        key,
        resource: Resource::at(&place),
        asked: path.into(),
        sent: path.into(),
    };
    let head = Head {
        home,
        status: StatusCode::OK,
        selecting: Selecting::of(&fields, &fields),
        fields,
        freshness: Freshness {
            came: clock::now(),
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
            doubted: None,
            always_ask: false,
            may_be_stale: true,
            while_revalidating: Duration::ZERO,
            if_error: Duration::ZERO,
        },
    };
    Arc::new(Kept {
        head: Arc::new(head),
        body: Bytes::from(vec![0; size]),
    })
}

fn settings(each: usize) -> Settings {
    Settings {
        ttl: None,
        stale_while_revalidate: None,
        stale_if_error: None,
        max_bytes: each as u64,
        max_entry: each as u64,
        shared: false,
        ignore: Vec::new(),
    }
}

fn store(most: usize, each: usize) -> Store {
    let mut store = Store::new(most);
    let each = settings(each);
    store.configure(most, &[("a", &each), ("b", &each)]);
    store
}

/// What it says that it holds is what it holds, in every table.
fn check(store: &Store) {
    let weight = |slot: &Slot| slot.variants.iter().map(|e| e.weight()).sum::<usize>();
    assert_eq!(store.bytes, store.slots.values().map(weight).sum::<usize>());
    assert!(store.bytes <= store.most);
    for (route, shelf) in &store.shelves {
        let own = || store.slots.values().filter(|slot| slot.route == *route);
        assert_eq!(shelf.bytes, own().map(weight).sum::<usize>());
        assert_eq!(
            shelf.entries,
            own().map(|s| s.variants.len()).sum::<usize>()
        );
        assert!(shelf.bytes <= shelf.most());
        assert!(
            shelf.queue.len() <= 3 * shelf.entries + 65,
            "{}",
            shelf.queue.len()
        );
        for slot in own() {
            let queued = shelf
                .queue
                .iter()
                .filter(|(_, serial)| *serial == slot.serial);
            assert_eq!(queued.count(), 1, "each can be evicted");
        }
    }
    let indexed: usize = store.resources.values().map(Vec::len).sum();
    assert_eq!(indexed, store.slots.len());
}

#[derive(Debug, Clone)]
enum Act {
    Put(bool, u8, usize),
    Get(bool, u8),
    Change(u8),
    Purge(bool, u8),
    Bound(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (any::<bool>(), 0..12u8, 0..3_000usize).prop_map(|(r, p, s)| Act::Put(r, p, s)),
        4 => (any::<bool>(), 0..12u8).prop_map(|(r, p)| Act::Get(r, p)),
        1 => (0..12u8).prop_map(Act::Change),
        1 => (any::<bool>(), 0..12u8).prop_map(|(r, p)| Act::Purge(r, p)),
        1 => (2_000..20_000usize).prop_map(Act::Bound),
    ]
}

proptest! {
    #[test]
    fn it_holds_its_bounds_and_gives_only_what_was_put_last(acts in prop::collection::vec(act(), 1..200)) {
        let mut store = store(12_000, 8_000);
        let mut put: HashMap<(bool, u8), usize> = HashMap::new();
        let route = |b: &bool| if *b { "b" } else { "a" };
        for act in acts {
            match act {
                Act::Put(r, p, size) => {
                    store.put(entry(route(&r), &format!("/{p}"), size));
                    put.insert((r, p), size);
                }
                Act::Get(r, p) => {
                    let key = entry(route(&r), &format!("/{p}"), 0).head.home.key;
                    if let Some(found) = store.get(&key, &HeaderMap::new()).0 {
                        prop_assert_eq!(Some(&found.body.len()), put.get(&(r, p)));
                    }
                }
                Act::Change(p) => {
                    let path = format!("/{p}");
                    let place = Place { tls: false, authority: "a", path: &path };
                    store.drop_resources(&[Resource::at(&place)]);
                    put.retain(|(_, other), _| *other != p);
                }
                Act::Purge(r, p) => {
                    let prefix = format!("/{p}");
                    store.purge(route(&r), &prefix);
                    put.retain(|(other, q), _| *other != r || !format!("/{q}").starts_with(&prefix));
                }
                Act::Bound(most) => {
                    let each = most.min(8_000);
                    let each = settings(each);
                    store.configure(most, &[("a", &each), ("b", &each)]);
                }
            }
            check(&store);
        }
    }
}

#[test]
fn what_is_used_outlives_a_scan_of_what_is_not() {
    let mut store = store(100_000, 20_000);
    let used = entry("a", "/used", 1_000);
    store.put(Arc::clone(&used));
    for number in 0..1_000 {
        store.put(entry("a", &format!("/{number}"), 1_000));
        assert!(
            store
                .get(&used.head.home.key, &HeaderMap::new())
                .0
                .is_some()
        );
    }
    check(&store);
    assert!(store.holding("a").evicted > 900);
}

#[test]
fn a_route_that_loses_its_cache_loses_its_answers() {
    let mut store = store(100_000, 20_000);
    store.put(entry("a", "/1", 10));
    store.put(entry("b", "/1", 10));
    store.configure(100_000, &[("b", &settings(20_000))]);
    check(&store);
    assert_eq!(
        (store.holding("a").entries, store.holding("b").entries),
        (0, 1)
    );
    store.put(entry("a", "/2", 10));
    assert_eq!(
        store.slots.len(),
        1,
        "nor does one that is under way come back"
    );
}
