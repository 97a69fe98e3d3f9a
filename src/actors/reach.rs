//! Which node reaches which, as far as this one knows: its own links, and what the nodes at their other ends say of
//! theirs. Pure.
//!
//! Two nodes may not reach each other while a third reaches both. What that one has for users of a shard goes by way of
//! the shard's owner, which does not know, or does not reach, the sessions on a node that it can't be linked with; so it
//! goes straight to that node as well.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Links by the node whose they are (empty: this one) and the node they lead to. A process gives no number twice.
pub type Ways = BTreeMap<(String, String), u64>;

/// Nodes, by the name of a node that does not reach them: what it routes has to go to them as well.
pub type Detours = BTreeMap<String, Vec<String>>;

/// This node's links, and those of the nodes that it is linked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// This node's: the number of the link, by the node it leads to.
    pub own: BTreeMap<String, u64>,
    /// The same of others.
    pub others: BTreeMap<String, Arc<BTreeMap<String, u64>>>,
}

impl Reach {
    /// All links that matter here: this node's, and those between two nodes that it reaches.
    pub fn ways(&self) -> Ways {
        let own = self.own.iter().map(|(to, number)| ((String::new(), to.clone()), *number));
        let between = self.pairs().filter_map(|(of, to, number)| Some(((of.clone(), to.clone()), number?)));
        own.chain(between).collect()
    }

    /// Whom the nodes that this one reaches don't reach, though this one does.
    pub fn detours(&self) -> Detours {
        let mut detours = Detours::new();
        for (of, to, _) in self.pairs().filter(|(_, _, number)| number.is_none()) {
            detours.entry(of.clone()).or_default().push(to.clone());
        }
        detours
    }

    /// Every two nodes that this one reaches, with the link by which the first reaches the second.
    fn pairs(&self) -> impl Iterator<Item = (&String, &String, Option<u64>)> {
        let others = self.others.iter().filter(|(of, _)| self.own.contains_key(*of));
        others.flat_map(|(of, links)| {
            self.own.keys().filter(move |to| *to != of).map(move |to| (of, to, links.get(to).copied()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(links: &[(&str, u64)]) -> BTreeMap<String, u64> {
        links.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn who_does_not_reach_a_node_is_gone_round() {
        let others = [
            ("a", links(&[("here", 7), ("b", 8)])),
            ("b", links(&[("here", 9)])),
            // No link leads there any more.
            ("gone", links(&[("a", 1), ("b", 2)])),
        ];
        let others = others.into_iter().map(|(name, links)| (name.to_owned(), Arc::new(links))).collect();
        let reach = Reach { own: links(&[("a", 1), ("b", 2)]), others };
        let way = |of: &str, to: &str, number| ((of.to_owned(), to.to_owned()), number);
        assert_eq!(reach.ways(), Ways::from([way("", "a", 1), way("", "b", 2), way("a", "b", 8)]));
        assert_eq!(reach.detours(), Detours::from([("b".to_owned(), vec!["a".to_owned()])]));
    }
}
