//! Finds the rule that a request belongs to: the first in the file that it meets, at a cost that the number of rules
//! does not change.
//!
//! Rules are filed under their host (exact, below a domain, or any) and there in a tree of path segments. A search goes
//! down every branch that the request could mean, gathers candidates, and keeps the one that stands first in the file;
//! branches that hold only later rules are skipped. It must never prefer the more specific rule, and never allocates.
//!
//! Cost: at each segment a search may follow the literal branch and the parameter branch, so it visits at most
//! 2^depth nodes for each of three hosts, never a node twice, and none deeper than the patterns go, however long the
//! path is. Only tables that hold both choices at every depth come near that. Rules of one host *and* one path, told
//! apart by method, listener, fields or query, are tried one after another. Called once for each request.

use std::collections::HashMap;

use super::grammar::split_segment;
use super::pattern::{MAX_HOST, Outline, Params, PathPattern, bare_host, is_label};
pub use super::rule::{Mismatch, Rule, View};
use super::tree::{NONE, Tree};

/// The rules of a route table, in file order, with their index.
#[derive(Debug)]
pub struct Matcher {
    rules: Vec<Rule>,
    entries: Vec<Entry>,
    tree: Tree,
    hosts: HashMap<Box<str>, Place>,
    domains: HashMap<Box<str>, Place>,
    anywhere: Place,
}

/// What a search needs of a rule, small enough that thousands stay in the processor's cache.
#[derive(Clone, Copy, Debug)]
struct Entry {
    outline: Outline,
    /// The next rule in the file of the same host and path.
    next: u32,
    conditional: bool,
    host_param: bool,
}

/// Where the rules of one host are filed.
#[derive(Clone, Copy, Debug)]
struct Place {
    root: u32,
    /// The first rule without a path.
    pathless: u32,
}

impl Place {
    fn new(tree: &mut Tree) -> Self {
        Self {
            root: tree.add_root(),
            pathless: NONE,
        }
    }
}

impl Matcher {
    /// Takes the rules in file order; a rule is known by its number in this list from here on.
    #[must_use]
    pub fn build(rules: Vec<Rule>) -> Self {
        let mut tree = Tree::default();
        let anywhere = Place::new(&mut tree);
        let mut matcher = Self {
            rules: Vec::new(),
            entries: Vec::with_capacity(rules.len()),
            tree,
            hosts: HashMap::new(),
            domains: HashMap::new(),
            anywhere,
        };
        let numbered: Vec<_> = (0..NONE).zip(&rules).collect();
        // From the last to the first: each rule is then put in front of the later ones of its host and path.
        for (index, rule) in numbered.into_iter().rev() {
            matcher.file(index, rule);
        }
        matcher.entries.reverse();
        matcher.rules = rules;
        matcher
    }

    fn file(&mut self, index: u32, rule: &Rule) {
        let host_param = rule
            .host
            .as_ref()
            .is_some_and(|host| host.param().is_some());
        let place = match &rule.host {
            None => &mut self.anywhere,
            Some(host) => {
                let map = if host_param {
                    &mut self.domains
                } else {
                    &mut self.hosts
                };
                map.entry(host.domain().into())
                    .or_insert_with(|| Place::new(&mut self.tree))
            }
        };
        let next = match &rule.path {
            Some(path) => self.tree.file(place.root, path, index),
            None => std::mem::replace(&mut place.pathless, index),
        };
        let outline = rule
            .path
            .as_ref()
            .map(PathPattern::outline)
            .unwrap_or_default();
        self.entries.push(Entry {
            outline,
            next,
            conditional: rule.looks_off_path(),
            host_param,
        });
    }

    /// The first rule that the request meets, and what its parameters stand for.
    ///
    /// A rule that fails only by its method is passed over like any other: later rules still get their turn.
    #[must_use]
    pub fn find(&self, view: &View<'_>) -> Option<(usize, Params)> {
        let index = self.search(view).best as usize;
        let entry = self.entries.get(index)?;
        let mut params = entry.outline.captures(view.path)?;
        if entry.host_param {
            params.set_label(view.host.split_once('.')?.0);
        }
        Some((index, params))
    }

    /// The same answer as [`Matcher::find`], reached by trying the rules one after another.
    #[must_use]
    pub fn find_linear(&self, view: &View<'_>) -> Option<(usize, Params)> {
        let (index, rule) = self
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.mismatch(view).is_none())?;
        Some((index, rule.captures(view)?))
    }

    /// The condition of the rule that the request fails; `None` if it meets them all.
    #[must_use]
    pub fn why_not(&self, index: usize, view: &View<'_>) -> Option<Mismatch<'_>> {
        match self.rules.get(index) {
            Some(rule) => rule.mismatch(view),
            None => Some(Mismatch::NoSuchRule),
        }
    }

    /// An earlier rule that takes every request that this one would, so that this one can never win.
    ///
    /// Never wrong, but not complete: earlier rules that do so only together are not found. The cost is that of one
    /// comparison with each earlier rule.
    #[must_use]
    pub fn shadowed_by(&self, index: usize) -> Option<usize> {
        let rule = self.rules.get(index)?;
        self.rules
            .iter()
            .take(index)
            .position(|earlier| earlier.covers(rule))
    }

    /// The rule of this number.
    #[must_use]
    pub fn rule(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn search<'m>(&'m self, view: &'m View<'m>) -> Search<'m> {
        let mut search = Search {
            matcher: self,
            view,
            best: NONE,
            #[cfg(test)]
            steps: 0,
        };
        search.place(self.anywhere);
        if self.hosts.is_empty() && self.domains.is_empty() {
            return search;
        }
        let mut buffer = [0; MAX_HOST];
        let Some(host) = lower_case(view.host, &mut buffer) else {
            return search;
        };
        if let Some(place) = self.hosts.get(host) {
            search.place(*place);
        }
        let domain = host.split_once('.').filter(|(label, _)| is_label(label));
        if let Some(place) = domain.and_then(|(_, domain)| self.domains.get(domain)) {
            search.place(*place);
        }
        search
    }
}

fn lower_case<'b>(host: &str, buffer: &'b mut [u8; MAX_HOST]) -> Option<&'b str> {
    let host = bare_host(host)?;
    let text = buffer.get_mut(..host.len())?;
    text.copy_from_slice(host.as_bytes());
    text.make_ascii_lowercase();
    std::str::from_utf8(text).ok()
}

/// One walk through the index; `best` is the first rule in the file that has matched so far.
struct Search<'m> {
    matcher: &'m Matcher,
    view: &'m View<'m>,
    best: u32,
    /// Nodes visited and rules tried.
    #[cfg(test)]
    steps: usize,
}

impl Search<'_> {
    fn place(&mut self, place: Place) {
        self.candidates(place.pathless);
        if self.view.path.starts_with('/') {
            self.node(place.root, self.view.path);
        }
    }

    /// Tries the rules of one host and path, in file order.
    fn candidates(&mut self, mut index: u32) {
        while index < self.best {
            self.count_step();
            let Some(entry) = self.matcher.entries.get(index as usize) else {
                return;
            };
            if !entry.conditional || self.meets_off_path(index) {
                self.best = index;
                return;
            }
            index = entry.next;
        }
    }

    fn meets_off_path(&self, index: u32) -> bool {
        let rule = self.matcher.rules.get(index as usize);
        rule.is_some_and(|rule| rule.mismatch_off_path(self.view).is_none())
    }

    /// `left` is what the nodes above have left of the path: empty, or starting with a slash.
    fn node(&mut self, at: u32, left: &str) {
        let tree = &self.matcher.tree;
        let Some(node) = tree.node(at).filter(|node| node.least < self.best) else {
            return;
        };
        self.count_step();
        self.candidates(node.tails);
        let Some((segment, left)) = split_segment(left) else {
            return self.candidates(node.ends);
        };
        let literal = tree.literal(node, at, segment);
        let param = if segment.is_empty() { NONE } else { node.param };
        // The branch with the earlier rules first: what it finds may spare the other.
        let least = |at| tree.node(at).map_or(NONE, |node| node.least);
        let (first, second) = if least(literal) < least(param) {
            (literal, param)
        } else {
            (param, literal)
        };
        self.node(first, left);
        self.node(second, left);
    }

    #[cfg(test)]
    fn count_step(&mut self) {
        self.steps += 1;
    }

    #[cfg(not(test))]
    fn count_step(&self) {}
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use http::header::{HeaderMap, HeaderName, HeaderValue};
    use http::method::Method;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{
        Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };
    use proptest::sample::select;

    use super::super::pattern::{HostPattern, Slot};
    use super::*;

    fn path_rule(text: &str) -> Rule {
        Rule {
            path: Some(PathPattern::parse(text).unwrap()),
            ..Rule::default()
        }
    }

    fn table<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Matcher {
        Matcher::build(
            patterns
                .into_iter()
                .map(|text| path_rule(text.as_ref()))
                .collect(),
        )
    }

    /// A request with what `View` borrows.
    #[derive(Clone, Debug)]
    struct Asked {
        listener: u16,
        host: String,
        path: String,
        query: Option<String>,
        method: Method,
        headers: HeaderMap,
    }

    impl Asked {
        fn get(path: &str) -> Self {
            Self {
                listener: 0,
                host: "api.test".to_owned(),
                path: path.to_owned(),
                query: None,
                method: Method::GET,
                headers: HeaderMap::new(),
            }
        }

        fn view(&self) -> View<'_> {
            View {
                listener: self.listener,
                host: &self.host,
                path: &self.path,
                query: self.query.as_deref(),
                method: &self.method,
                headers: &self.headers,
            }
        }
    }

    fn winner(matcher: &Matcher, path: &str) -> Option<usize> {
        matcher
            .find(&Asked::get(path).view())
            .map(|(index, _)| index)
    }

    fn steps(matcher: &Matcher, asked: &Asked) -> usize {
        matcher.search(&asked.view()).steps
    }

    #[test]
    fn the_first_rule_in_the_file_wins_not_the_most_specific() {
        let matcher = table(["/a/{x}", "/a/b", "/{*rest}", "/c"]);
        assert_eq!(winner(&matcher, "/a/b"), Some(0));
        assert_eq!(winner(&matcher, "/a/"), Some(2));
        assert_eq!(winner(&matcher, "/c"), Some(2));
        let reversed = table(["/c", "/{*rest}", "/a/b", "/a/{x}"]);
        assert_eq!(winner(&reversed, "/c"), Some(0));
        assert_eq!(winner(&reversed, "/a/b"), Some(1));
    }

    #[test]
    fn a_rule_that_fails_by_its_method_gives_later_rules_their_turn() {
        let get = Rule {
            methods: vec![Method::GET],
            ..path_rule("/a")
        };
        let post = Rule {
            methods: vec![Method::POST],
            ..path_rule("/a")
        };
        let matcher = Matcher::build(vec![get, post]);
        let asked = |method| Asked {
            method,
            ..Asked::get("/a")
        };
        assert_eq!(matcher.find(&asked(Method::POST).view()).unwrap().0, 1);
        assert_eq!(matcher.find(&asked(Method::HEAD).view()), None);
        assert!(matches!(
            matcher.why_not(0, &asked(Method::HEAD).view()),
            Some(Mismatch::Method { .. })
        ));
        assert_eq!(
            matcher.why_not(9, &asked(Method::GET).view()),
            Some(Mismatch::NoSuchRule)
        );
    }

    #[test]
    fn the_host_decides_across_all_ways_to_write_it_in_file_order() {
        let host = |text| Rule {
            host: HostPattern::parse(text).ok(),
            ..Rule::default()
        };
        let matcher = Matcher::build(vec![
            host("b.test"),
            host("{h}.test"),
            host("a.test"),
            Rule::default(),
        ]);
        let index = |host: &str| {
            let asked = Asked {
                host: host.to_owned(),
                ..Asked::get("/")
            };
            matcher
                .find(&asked.view())
                .map(|(index, params)| (index, params.get(Slot::Host, "/", host).to_owned()))
        };
        assert_eq!(index("B.TEST."), Some((0, String::new())));
        assert_eq!(index("A.test"), Some((1, "A".to_owned())));
        assert_eq!(index("x.a.test"), Some((3, String::new())));
        assert_eq!(index(""), Some((3, String::new())));
        assert_eq!(index(&"x".repeat(4000)), Some((3, String::new())));
    }

    #[test]
    fn a_rule_without_a_path_takes_the_asterisk_form() {
        let matcher = Matcher::build(vec![path_rule("/{*rest}"), Rule::default()]);
        assert_eq!(winner(&matcher, "*"), Some(1));
        assert_eq!(winner(&matcher, "/"), Some(0));
    }

    #[test]
    fn a_rule_that_can_never_win_is_told_with_the_one_that_hides_it() {
        let matcher = table(["/a/{*rest}", "/b", "/a/b", "/a", "/{x}", "/b"]);
        let shadows: Vec<_> = (0..matcher.len())
            .map(|index| matcher.shadowed_by(index))
            .collect();
        assert_eq!(shadows, [None, None, Some(0), Some(0), None, Some(1)]);
        assert_eq!(matcher.shadowed_by(99), None);
    }

    /// Tables of the shapes that route files have, with a request that meets rule `pick(i)` of them.
    type Shape = (&'static str, fn(usize) -> String, fn(usize) -> String);
    const SHAPES: [Shape; 8] = [
        (
            "literals",
            |i| format!("/api/v1/thing{i}"),
            |i| format!("/api/v1/thing{i}"),
        ),
        (
            "first segment",
            |i| format!("/svc{i}/{{id}}/x"),
            |i| format!("/svc{i}/7/x"),
        ),
        (
            "after a parameter",
            |i| format!("/{{tenant}}/svc{i}"),
            |i| format!("/acme/svc{i}"),
        ),
        (
            "rests",
            |i| format!("/svc{i}/{{*rest}}"),
            |i| format!("/svc{i}/a/b/c"),
        ),
        (
            "rests after parameters",
            |i| format!("/{{a}}/svc{i}/{{b}}/{{*rest}}"),
            |i| format!("/x/svc{i}/y/z"),
        ),
        (
            "nested",
            |i| format!("/g{}/h{}/i{}", i / 400, i / 20 % 20, i % 20),
            |i| format!("/g{}/h{}/i{}", i / 400, i / 20 % 20, i % 20),
        ),
        (
            "mixed",
            |i| {
                if i % 2 == 0 {
                    format!("/svc{i}/{{id}}/x")
                } else {
                    format!("/{{tenant}}/svc{i}")
                }
            },
            |i| {
                if i % 2 == 0 {
                    format!("/svc{i}/7/x")
                } else {
                    format!("/acme/svc{i}")
                }
            },
        ),
        (
            "every choice",
            |i| {
                format!(
                    "/{}/{}/k{i}",
                    if i % 4 < 2 { "a" } else { "{x}" },
                    if i % 2 == 0 { "b" } else { "{y}" }
                )
            },
            |i| format!("/a/b/k{i}"),
        ),
    ];

    #[test]
    fn the_cost_of_a_search_does_not_grow_with_the_number_of_patterns() {
        for (name, pattern, path) in SHAPES {
            let cost = |rules: usize| {
                let matcher = table((0..rules).map(pattern));
                let asked = (0..rules).step_by((rules / 100).max(1)).map(path);
                let hits = asked.map(|path| {
                    assert!(winner(&matcher, &path).is_some(), "{name}: {path}");
                    steps(&matcher, &Asked::get(&path))
                });
                let misses = [
                    "/none",
                    "/acme/none/x",
                    "/svc1/none/none/none",
                    "/a/b/none",
                    "/a/b",
                    "/api/v1/none",
                ];
                hits.chain(misses.map(|path| steps(&matcher, &Asked::get(path))))
                    .max()
                    .unwrap()
            };
            let (small, large) = (cost(10), cost(10_000));
            assert!(
                large <= 2 * small,
                "{name}: {small} steps among 10, {large} among 10,000"
            );
        }
    }

    #[test]
    fn the_cost_of_a_search_does_not_grow_with_the_number_of_hosts() {
        let rules = (0..10_000).map(|i| {
            let host = if i % 2 == 0 {
                format!("h{i}.test")
            } else {
                format!("{{h}}.h{i}.test")
            };
            let path = (i % 3 > 0).then(|| PathPattern::parse("/{*rest}").unwrap());
            Rule {
                host: Some(HostPattern::parse(&host).unwrap()),
                path,
                ..Rule::default()
            }
        });
        let matcher = Matcher::build(rules.collect());
        for (host, index) in [
            ("h9998.test", Some(9_998)),
            ("x.h9999.test", Some(9_999)),
            ("h9999.test", None),
        ] {
            let asked = Asked {
                host: host.to_owned(),
                ..Asked::get("/a/b")
            };
            assert_eq!(
                matcher.find(&asked.view()).map(|(index, _)| index),
                index,
                "{host}"
            );
            assert!(steps(&matcher, &asked) <= 4, "{host}");
        }
    }

    #[test]
    fn a_hostile_path_costs_no_more_than_the_tree_has_nodes() {
        let depth = 12_u32;
        let patterns = (0..1_u32 << depth).map(|choice| {
            let segments = (0..depth).map(|at| {
                if choice >> at & 1 == 0 {
                    "/a".to_owned()
                } else {
                    format!("/{{p{at}}}")
                }
            });
            segments.collect::<String>()
        });
        // More parameters than a pattern may hold are left out.
        let rules: Vec<_> = patterns
            .filter_map(|text| PathPattern::parse(&text).ok())
            .collect();
        let count = rules.len();
        assert!(count > 3_000);
        let rules = rules.into_iter().map(|path| Rule {
            path: Some(path),
            ..Rule::default()
        });
        let matcher = Matcher::build(rules.collect());
        for path in [
            "/a".repeat(11) + "/",
            "/a".repeat(12) + "/b",
            "/a".repeat(4_000),
            "/".repeat(8_000),
            "/a".repeat(11),
        ] {
            let steps = steps(&matcher, &Asked::get(&path));
            assert!(steps <= 1 << (depth + 1), "{steps} steps");
        }
        assert!(
            steps(&matcher, &Asked::get(&"/a".repeat(12))) <= 14,
            "the first rule spares all others"
        );
    }

    const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::HEAD];
    const HOSTS: [&str; 5] = ["a.test", "{h}.test", "{h}.a.test", "b.a.test", "Test"];
    const ASKED_HOSTS: [&str; 7] = [
        "a.test", "A.Test.", "b.a.test", "c.a.test", "test", "", "x@.test",
    ];
    const SEGMENTS: [&str; 6] = ["a", "b", "%61", "", "{}", "{}"];
    const ASKED_SEGMENTS: [&str; 6] = ["a", "b", "%61", "", "A", "c;x"];

    fn patterns() -> impl Strategy<Value = PathPattern> {
        (vec(select(&SEGMENTS[..]), 0..4), any::<bool>()).prop_map(|(segments, rest)| {
            let mut text = String::new();
            for (at, segment) in segments.iter().enumerate() {
                text += &format!("/{}", segment.replace("{}", &format!("{{p{at}}}")));
            }
            if rest || text.is_empty() {
                text += "/{*rest}";
            }
            PathPattern::parse(&text).unwrap()
        })
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let header = select(vec!["1", "2"]).prop_map(|value| {
            (
                HeaderName::from_static("x-mode"),
                HeaderValue::from_static(value),
            )
        });
        let query = select(vec![("k", "1"), ("k", "2"), ("flag", "")])
            .prop_map(|(k, v)| (k.to_owned(), v.to_owned()));
        let place = (
            option::weighted(0.2, 0..2_u16),
            option::weighted(
                0.5,
                select(&HOSTS[..]).prop_map(|host| HostPattern::parse(host).unwrap()),
            ),
            option::weighted(0.9, patterns()),
        );
        let other = (
            prop_oneof![2 => Just(Vec::new()), 1 => vec(select(&METHODS[..]), 1..3)],
            prop_oneof![4 => Just(Vec::new()), 1 => vec(header, 1..2)],
            prop_oneof![4 => Just(Vec::new()), 1 => vec(query, 1..2)],
        );
        let rule =
            (place, other).prop_map(|((listener, host, path), (methods, headers, query))| Rule {
                listener,
                host,
                path,
                methods,
                headers,
                query,
            });
        vec(rule, 0..24)
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let path =
            vec(select(&ASKED_SEGMENTS[..]), 0..5).prop_map(|segments| match segments.as_slice() {
                [] => "*".to_owned(),
                segments => format!("/{}", segments.join("/")),
            });
        let fields = vec(select(vec!["1", "2", "3"]), 0..3);
        let query = option::of(select(vec!["k=1", "k=2&k=1", "flag", "flag=&k", "K=1", ""]));
        (
            0..2_u16,
            select(&ASKED_HOSTS[..]),
            path,
            query,
            select(&METHODS[..]),
            fields,
        )
            .prop_map(|(listener, host, path, query, method, fields)| {
                let mut headers = HeaderMap::new();
                for value in fields {
                    headers.append("x-mode", HeaderValue::from_static(value));
                }
                Asked {
                    listener,
                    host: host.to_owned(),
                    path,
                    query: query.map(str::to_owned),
                    method,
                    headers,
                }
            })
    }

    proptest! {
        #[test]
        fn the_index_answers_as_a_search_from_top_to_bottom_would(rules in rules(), asked in vec(asked(), 1..24)) {
            let matcher = Matcher::build(rules);
            for asked in &asked {
                let view = asked.view();
                let found = matcher.find(&view);
                prop_assert_eq!(found, matcher.find_linear(&view), "{:?}", asked);
                let first = (0..matcher.len()).find(|index| matcher.why_not(*index, &view).is_none());
                prop_assert_eq!(found.map(|(index, _)| index), first);
            }
        }

        #[test]
        fn a_rule_that_is_called_unreachable_never_wins(rules in rules(), asked in vec(asked(), 1..48)) {
            let matcher = Matcher::build(rules);
            for asked in &asked {
                let view = asked.view();
                for index in 0..matcher.len() {
                    if let Some(earlier) = matcher.shadowed_by(index) {
                        prop_assert!(earlier < index);
                        let hidden = matcher.why_not(index, &view).is_some() || matcher.why_not(earlier, &view).is_none();
                        prop_assert!(hidden, "{} takes {:?}, {} does not", index, asked, earlier);
                    }
                }
                if let Some((index, _)) = matcher.find(&view) {
                    prop_assert_eq!(matcher.shadowed_by(index), None);
                }
            }
        }
    }
}
