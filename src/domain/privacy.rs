//! Who may do what to a user: the words of the privacy settings, and what follows from them.

/// Who may do something to a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Audience {
    /// Every user but those blocked.
    #[default]
    Everyone,
    /// The user's friends.
    Contacts,
    /// No other user.
    Nobody,
}

impl Audience {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Everyone, Self::Contacts, Self::Nobody];

    /// Its word in REST.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Contacts => "contacts",
            Self::Nobody => "nobody",
        }
    }

    /// By its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|audience| audience.as_str() == word)
    }

    /// By the number that is stored; an unknown one is a newer version's, and is taken as the strictest.
    pub fn from_number(number: i16) -> Self {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at).copied()).unwrap_or(Self::Nobody)
    }

    /// Whether it takes in one who stands so to the user.
    pub fn admits(self, relation: Relation) -> bool {
        !relation.is_blocked()
            && match self {
                Self::Everyone => true,
                Self::Contacts => relation.friends,
                Self::Nobody => false,
            }
    }
}

/// How two users stand to each other, from the side of one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Relation {
    /// Both are friends.
    pub friends: bool,
    /// The one has blocked the other.
    pub blocks: bool,
    /// The other has blocked the one.
    pub blocked: bool,
}

impl Relation {
    /// Whether either has blocked the other.
    pub fn is_blocked(self) -> bool {
        self.blocks || self.blocked
    }

    /// The same from the other's side.
    pub fn reversed(self) -> Self {
        Self { friends: self.friends, blocks: self.blocked, blocked: self.blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_either_way_goes_before_everything() {
        let friends = Relation { friends: true, ..Relation::default() };
        let stranger = Relation::default();
        let blocking = Relation { blocks: true, ..friends };
        for relation in [blocking, blocking.reversed()] {
            assert!(Audience::ALL.iter().all(|audience| !audience.admits(relation)), "{relation:?}");
        }
        assert_eq!(Audience::ALL.map(|audience| audience.admits(friends)), [true, true, false]);
        assert_eq!(Audience::ALL.map(|audience| audience.admits(stranger)), [true, false, false]);
    }

    #[test]
    fn words_and_numbers_come_back() {
        for audience in Audience::ALL {
            assert_eq!(Audience::from_word(audience.as_str()), Some(audience));
            assert_eq!(Audience::from_number(audience as i16), audience);
        }
        assert_eq!(Audience::from_number(9), Audience::Nobody);
        assert_eq!(Audience::from_word("all"), None);
    }
}
