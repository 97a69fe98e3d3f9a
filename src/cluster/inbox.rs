//! What a peer has said about nodes and the manager has not heard yet: the latest word of each kind, so that a peer that
//! talks without end costs no more memory than one that spoke once.

use parking_lot::Mutex;

use crate::protocol::cluster::Gossip;

/// The words of one link's peer.
#[derive(Default)]
pub struct Inbox(Mutex<Words>);

/// What was said since the last time.
#[derive(Debug, Default, PartialEq)]
pub struct Words {
    /// The last gossip: each tells all that its sender knows.
    pub gossip: Option<Gossip>,
    /// The peer leaves.
    pub leaves: bool,
    /// The peer has confirmed that this node leaves.
    pub confirms: bool,
}

impl Inbox {
    /// Adds a word. True: it is the first, and the manager is to be told that there are some.
    pub fn put(&self, say: impl FnOnce(&mut Words)) -> bool {
        let mut words = self.0.lock();
        let first = *words == Words::default();
        say(&mut words);
        first
    }

    /// Takes all words.
    pub fn take(&self) -> Words {
        std::mem::take(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::Member;

    fn gossip(name: &str) -> Gossip {
        Gossip { members: vec![Member { name: name.to_owned(), ..Member::default() }] }
    }

    #[test]
    fn only_the_first_word_rings_and_only_the_last_gossip_is_kept() {
        let inbox = Inbox::default();
        assert!(inbox.put(|words| words.gossip = Some(gossip("a"))));
        for _ in 0..1000 {
            assert!(!inbox.put(|words| words.gossip = Some(gossip("b"))));
        }
        assert!(!inbox.put(|words| words.leaves = true));
        let words = Words { gossip: Some(gossip("b")), leaves: true, confirms: false };
        assert_eq!(inbox.take(), words);
        assert_eq!(inbox.take(), Words::default());
        assert!(inbox.put(|words| words.confirms = true));
    }
}
