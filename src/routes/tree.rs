//! The tree of path segments under the index, packed into a few arrays so that a search through thousands of patterns
//! touches hardly more memory than one through ten.
//!
//! Holds which segment leads where and which rules end where; it decides nothing about requests. Nodes of one pattern
//! lie side by side; literal branches are found in one open-addressed table for the whole tree, never more than half
//! full, whose keys come from the file alone: requests cannot add to it. Built once, then read by `index`.

use super::pattern::{PathPattern, Segment};

/// Stands for "no rule" and "no node"; greater than every number of one.
pub(super) const NONE: u32 = u32::MAX;

/// A place in the tree: all patterns of one host that are alike up to here.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The first rule in the file that is filed here or below.
    pub(super) least: u32,
    /// Where a parameter segment leads.
    pub(super) param: u32,
    /// The first rule whose path ends here.
    pub(super) ends: u32,
    /// The first rule that takes any rest from here.
    pub(super) tails: u32,
    /// How many literal segments lead on.
    literals: u32,
    parent: u32,
    /// Where in the tree's text the segment stands that leads here.
    start: u32,
    end: u32,
}

/// One place of the table of literal branches: part of the key's hash, and the node that it leads to.
#[derive(Clone, Copy, Debug)]
struct Branch {
    tag: u32,
    node: u32,
}

const FREE: Branch = Branch { tag: 0, node: NONE };

/// Any number of trees, one for each root, in one set of arrays.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// A power of two long.
    branches: Vec<Branch>,
    used: usize,
    text: String,
}

impl Tree {
    /// Adds a root and returns its number.
    pub(super) fn add_root(&mut self) -> u32 {
        self.add_node(NONE, "")
    }

    /// Files a rule under its path and returns the rule that was the first there.
    ///
    /// Rules come in from the last to the first, so that each is the first in the file of all that are there yet.
    pub(super) fn file(&mut self, root: u32, path: &PathPattern, rule: u32) -> u32 {
        let mut at = root;
        self.lower_least(at, rule);
        for segment in path.segments() {
            at = match segment {
                Segment::Literal(text) => self.literal_or_new(at, text),
                Segment::Param(_) => self.param_or_new(at),
            };
            self.lower_least(at, rule);
        }
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return NONE;
        };
        let first = if path.has_tail() {
            &mut node.tails
        } else {
            &mut node.ends
        };
        std::mem::replace(first, rule)
    }

    pub(super) fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// The node that the literal `segment` leads to, or [`NONE`]; `node` is number `at`.
    pub(super) fn literal(&self, node: &Node, at: u32, segment: &str) -> u32 {
        if node.literals == 0 {
            return NONE;
        }
        self.look_up(at, segment, hash(at, segment))
    }

    fn lower_least(&mut self, at: u32, rule: u32) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.least = node.least.min(rule);
        }
    }

    fn param_or_new(&mut self, at: u32) -> u32 {
        if let Some(node) = self.node(at).filter(|node| node.param != NONE) {
            return node.param;
        }
        let new = self.add_node(at, "");
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.param = new;
        }
        new
    }

    fn literal_or_new(&mut self, at: u32, segment: &str) -> u32 {
        let hash = hash(at, segment);
        let known = self.look_up(at, segment, hash);
        if known != NONE {
            return known;
        }
        let new = self.add_node(at, segment);
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.literals += 1;
        }
        self.used += 1;
        if self.used * 2 > self.branches.len() {
            self.grow();
        }
        self.place(hash, new);
        new
    }

    fn add_node(&mut self, parent: u32, segment: &str) -> u32 {
        let start = number(self.text.len());
        self.text.push_str(segment);
        let end = number(self.text.len());
        let new = number(self.nodes.len());
        self.nodes.push(Node {
            least: NONE,
            param: NONE,
            ends: NONE,
            tails: NONE,
            literals: 0,
            parent,
            start,
            end,
        });
        new
    }

    fn segment(&self, node: &Node) -> &str {
        self.text
            .get(node.start as usize..node.end as usize)
            .unwrap_or_default()
    }

    fn look_up(&self, parent: u32, segment: &str, hash: u64) -> u32 {
        for place in self.places(hash) {
            match self.branches.get(place) {
                Some(branch) if branch.node != NONE => {
                    let same = |node: &Node| node.parent == parent && self.segment(node) == segment;
                    if branch.tag == tag(hash) && self.node(branch.node).is_some_and(same) {
                        return branch.node;
                    }
                }
                _ => return NONE,
            }
        }
        NONE
    }

    /// Puts the node into the first free place; there is one, as the table is at most half full.
    fn place(&mut self, hash: u64, node: u32) {
        for place in self.places(hash) {
            if let Some(branch) = self
                .branches
                .get_mut(place)
                .filter(|branch| branch.node == NONE)
            {
                *branch = Branch {
                    tag: tag(hash),
                    node,
                };
                return;
            }
        }
    }

    fn grow(&mut self) {
        let larger = vec![FREE; (self.branches.len() * 2).max(16)];
        let old = std::mem::replace(&mut self.branches, larger);
        for branch in old {
            if let Some(node) = self.node(branch.node) {
                let hash = hash(node.parent, self.segment(node));
                self.place(hash, branch.node);
            }
        }
    }

    /// Every place of the table once, in the order in which a key of this hash tries them.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.branches.len().wrapping_sub(1);
        let first = tag(hash.rotate_left(32)) as usize;
        (0..self.branches.len()).map(move |step| first.wrapping_add(step) & mask)
    }
}

/// The numbers here count bytes and nodes of a file in memory: one that reached `u32::MAX` could not have been read.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NONE)
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}

/// A quick hash that need not withstand chosen keys: what a request brings is looked up, never stored.
fn hash(parent: u32, segment: &str) -> u64 {
    let (words, rest) = segment.as_bytes().as_chunks::<8>();
    let rest = rest.iter().fold(segment.len() as u64, |word, byte| {
        word << 8 | u64::from(*byte)
    });
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mixed = words.chain([rest]).fold(u64::from(parent), mix);
    mixed ^ mixed >> 29
}

fn mix(state: u64, word: u64) -> u64 {
    // An odd multiplier near 2^64 over the golden ratio spreads neighbouring words over all high bits.
    let product = (state.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_is_found_under_its_own_parent_only() {
        let mut tree = Tree::default();
        let roots = [tree.add_root(), tree.add_root()];
        for rule in (0..5_000_u32).rev() {
            let path = PathPattern::parse(&format!("/s{}/{{id}}/x{rule}", rule % 700)).unwrap();
            assert_eq!(tree.file(roots[rule as usize % 2], &path, rule), NONE);
        }
        for rule in 0..5_000_u32 {
            let step = |at, segment: &str| tree.literal(tree.node(at).unwrap(), at, segment);
            let (root, other) = (roots[rule as usize % 2], roots[1 - rule as usize % 2]);
            let first = tree.node(step(root, &format!("s{}", rule % 700))).unwrap();
            assert_eq!(first.least, rule % 700);
            let last = step(first.param, &format!("x{rule}"));
            assert_eq!(tree.node(last).unwrap().ends, rule);
            assert_eq!(step(other, &format!("s{}", rule % 700)), NONE);
            assert_eq!(step(root, &format!("x{rule}")), NONE);
        }
    }

    #[test]
    fn the_table_stays_flat_for_keys_that_look_alike() {
        let mut tree = Tree::default();
        let root = tree.add_root();
        for rule in (0..20_000_u32).rev() {
            tree.file(
                root,
                &PathPattern::parse(&format!("/api/v1/{rule:08}{rule:08}")).unwrap(),
                rule,
            );
        }
        let free = |place: usize| tree.branches[place].node == NONE;
        let tries = |rule: u32| {
            let hash = hash(rule % 7, &format!("{rule:08}"));
            tree.places(hash).take_while(|place| !free(*place)).count()
        };
        assert!((0..20_000).map(tries).max().unwrap() < 64);
        assert!((0..20_000).map(tries).sum::<usize>() < 3 * 20_000);
    }

    #[test]
    fn an_empty_tree_leads_nowhere() {
        let mut tree = Tree::default();
        assert!(tree.node(0).is_none());
        let root = tree.add_root();
        assert_eq!(tree.literal(tree.node(root).unwrap(), root, "a"), NONE);
        assert_eq!(tree.look_up(root, "a", hash(root, "a")), NONE);
    }
}
