//! Placement: which node owns an address. Rendezvous hashing, pure.
//!
//! Every candidate node scores the address; the highest score owns it. So a node that joins N others takes about
//! 1/(N+1) of the addresses and moves no other, and a node that goes gives up only its own. All versions of Rookery
//! must agree on the function, or two nodes would own one address: the golden values in the tests hold it.
//!
//! The function: XXH3 (64 bits) over 9 bytes, the kind's number (room 0, presence 1, session 2) and the key in
//! little-endian order, seeded with the node's hash; which is XXH3 over its name, seeded with [`NODE_SEED`].

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::address::{Address, Kind};

/// Seeds the hash of a node's name: "rookery1" in ASCII.
const NODE_SEED: u64 = 0x726f_6f6b_6572_7931;

/// Seeds the choice of a lane, so that it does not follow ownership: "lanes001" in ASCII.
const LANE_SEED: u64 = 0x6c61_6e65_7330_3031;

/// A node that may own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// [`node_hash`] of its name.
    pub hash: u64,
    /// Whatever the caller knows it by.
    pub index: usize,
}

/// The part of a score that a node brings.
pub fn node_hash(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), NODE_SEED)
}

/// How much a node wants an address.
pub fn score(node_hash: u64, address: &Address) -> u64 {
    xxh3_64_with_seed(&bytes_of(address), node_hash)
}

/// The candidate that owns the address; none if there is no candidate. Of two equal scores (one pair in 2^64) the
/// greater node hash wins, so that the order of the candidates never matters.
pub fn owner(candidates: &[Candidate], address: &Address) -> Option<usize> {
    let bytes = bytes_of(address);
    candidates
        .iter()
        .max_by_key(|candidate| (xxh3_64_with_seed(&bytes, candidate.hash), candidate.hash))
        .map(|candidate| candidate.index)
}

/// The lane, of `lanes`, that carries everything for the address.
pub fn lane(address: &Address, lanes: usize) -> usize {
    (xxh3_64_with_seed(&bytes_of(address), LANE_SEED) % lanes as u64) as usize
}

fn bytes_of(address: &Address) -> [u8; 9] {
    let kind = match address.kind {
        Kind::Room => 0,
        Kind::Presence => 1,
        Kind::Session => 2,
    };
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&address.key.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(names: &[String]) -> Vec<Candidate> {
        names.iter().enumerate().map(|(index, name)| Candidate { hash: node_hash(name), index }).collect()
    }

    fn owner_name(names: &[String], address: &Address) -> Option<String> {
        owner(&candidates(names), address).map(|index| names[index].clone())
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("node-{number}")).collect()
    }

    #[test]
    fn golden_values_hold_so_that_versions_agree() {
        let candidates = candidates(&names(3));
        let owners = |address: fn(u64) -> Address| -> Vec<usize> {
            (0..12).map(|key| owner(&candidates, &address(key)).expect("there are candidates")).collect()
        };
        assert_eq!(
            (
                node_hash("node-0"),
                score(node_hash("node-1"), &Address::session(42)),
                owners(Address::room),
                owners(Address::presence),
                (0..8).map(|key| lane(&Address::room(key), 4)).collect::<Vec<_>>(),
            ),
            (
                4_659_288_190_160_595_199,
                5_831_220_542_148_423_755,
                vec![2, 0, 2, 2, 0, 1, 0, 2, 1, 1, 0, 2],
                vec![2, 1, 0, 2, 1, 1, 1, 0, 2, 2, 0, 0],
                vec![3, 2, 0, 3, 1, 0, 3, 3],
            )
        );
    }

    #[test]
    fn nobody_owns_anything_in_an_empty_view() {
        assert_eq!(owner(&[], &Address::room(1)), None);
    }

    #[test]
    fn each_node_owns_about_its_share() {
        let names = names(5);
        let candidates = candidates(&names);
        let mut counts = [0_u32; 5];
        for key in 0..50_000 {
            counts[owner(&candidates, &Address::room(key)).expect("there are candidates")] += 1;
        }
        for count in counts {
            assert!((9_500..10_500).contains(&count), "shares are {counts:?}");
        }
    }

    #[test]
    fn a_new_node_takes_about_its_share() {
        for count in [1_usize, 2, 3, 7] {
            let before = names(count);
            let after = names(count + 1);
            let moved = (0..20_000)
                .filter(|key| {
                    let address = Address::room(*key);
                    owner_name(&before, &address) != owner_name(&after, &address)
                })
                .count();
            let share = 20_000 / (count + 1);
            assert!(moved.abs_diff(share) < share / 10, "{moved} moved of a share of {share}");
        }
    }

    proptest! {
        #[test]
        fn a_new_node_moves_keys_only_to_itself(count in 1_usize..12, key: u64, name in "[a-z]{1,8}") {
            let before = names(count);
            let mut after = before.clone();
            after.push(name.clone());
            let address = Address::room(key);
            let (old, new) = (owner_name(&before, &address), owner_name(&after, &address));
            prop_assert!(new == old || new == Some(name));
        }

        #[test]
        fn a_lost_node_moves_only_its_own_keys(count in 2_usize..12, key: u64, lost in 0_usize..12) {
            let before = names(count);
            let lost = lost % count;
            let mut after = before.clone();
            after.remove(lost);
            let address = Address::presence(key);
            let old = owner_name(&before, &address);
            if old.as_ref() != Some(&before[lost]) {
                prop_assert_eq!(owner_name(&after, &address), old);
            }
        }

        #[test]
        fn the_order_of_the_nodes_does_not_matter(
            mut names in proptest::collection::hash_set("[a-z0-9-]{1,12}", 1..10)
                .prop_map(|set| set.into_iter().collect::<Vec<_>>()),
            key: u64,
            turn in 0_usize..10,
        ) {
            let address = Address::session(key);
            let owner = owner_name(&names, &address);
            let turn = turn % names.len();
            names.rotate_left(turn);
            prop_assert_eq!(owner_name(&names, &address), owner.clone());
            names.reverse();
            prop_assert_eq!(owner_name(&names, &address), owner);
        }
    }
}
