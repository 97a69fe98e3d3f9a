//! Who may do what in a group, as data: one table of acts against roles. The room asks it before every act, and the
//! tests go through every cell of it.

use super::{Error, Result};
use crate::protocol::MemberRole;

/// Something a member may want to do in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Send a message, where neither the room nor the member is silenced.
    Write,
    /// React to a message, or take a reaction off, where the member is not silenced; in a read-only room too.
    React,
    /// Change or take back a message of one's own.
    ChangeOwnMessage,
    /// Leave the group.
    Leave,
    /// See who is a member.
    ListMembers,
    /// Send although the room is read-only, all are silenced, or slow mode would have one wait.
    WriteAnyway,
    /// React although all are silenced.
    ReactAnyway,
    /// Mention all members at once.
    MentionAll,
    /// Take back a message of somebody else.
    RecallOthers,
    /// Pin a message, or take the pin off.
    PinMessage,
    /// Change name, description, avatar, announcement, join policy, read-only, slow mode.
    ChangeRoom,
    /// Add users.
    AddMembers,
    /// Remove, silence or ban a member of a lower role, or take a ban back.
    DisciplineMembers,
    /// Silence all who are only members.
    SilenceAll,
    /// See, accept and decline requests to join.
    AnswerRequests,
    /// Make, list and take back invite codes.
    Invite,
    /// Make a member an admin, or an admin a member.
    SetRoles,
    /// Hand the group to another member.
    Transfer,
    /// End the group for all.
    Dissolve,
}

/// Every act with the lowest role that may do it.
pub const LOWEST_ROLE: [(Act, MemberRole); 19] = [
    (Act::Write, MemberRole::Member),
    (Act::React, MemberRole::Member),
    (Act::ChangeOwnMessage, MemberRole::Member),
    (Act::Leave, MemberRole::Member),
    (Act::ListMembers, MemberRole::Member),
    (Act::WriteAnyway, MemberRole::Admin),
    (Act::ReactAnyway, MemberRole::Admin),
    (Act::MentionAll, MemberRole::Admin),
    (Act::RecallOthers, MemberRole::Admin),
    (Act::PinMessage, MemberRole::Admin),
    (Act::ChangeRoom, MemberRole::Admin),
    (Act::AddMembers, MemberRole::Admin),
    (Act::DisciplineMembers, MemberRole::Admin),
    (Act::SilenceAll, MemberRole::Admin),
    (Act::AnswerRequests, MemberRole::Admin),
    (Act::Invite, MemberRole::Admin),
    (Act::SetRoles, MemberRole::Owner),
    (Act::Transfer, MemberRole::Owner),
    (Act::Dissolve, MemberRole::Owner),
];

/// Whether a member of this role may do this.
pub fn allows(role: MemberRole, act: Act) -> bool {
    LOWEST_ROLE.iter().any(|(listed, lowest)| *listed == act && rank(role) >= rank(*lowest))
}

/// Nothing, or `permission_denied` saying who may do this instead.
pub fn require(role: MemberRole, act: Act) -> Result<()> {
    if allows(role, act) {
        return Ok(());
    }
    let owner_only = !allows(MemberRole::Admin, act);
    Err(Error::denied(if owner_only {
        "only the owner of the group may do this"
    } else {
        "only the owner and admins of the group may do this"
    }))
}

/// Whether a member of role `by` stands above one of role `other`: what [`Act::DisciplineMembers`] and
/// [`Act::RecallOthers`] need beside the act itself.
pub fn outranks(by: MemberRole, other: MemberRole) -> bool {
    rank(by) > rank(other)
}

/// The protocol's numbers of the roles grow with their rights.
fn rank(role: MemberRole) -> i32 {
    role as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [MemberRole; 3] = [MemberRole::Member, MemberRole::Admin, MemberRole::Owner];

    #[test]
    fn a_higher_role_may_do_all_that_a_lower_one_may() {
        for (act, _) in LOWEST_ROLE {
            let may = ROLES.map(|role| allows(role, act));
            assert!(may.is_sorted(), "{act:?}: {may:?}");
            assert!(may[2], "the owner may do everything, {act:?} too");
        }
    }

    #[test]
    fn no_act_is_listed_twice() {
        for (at, (act, _)) in LOWEST_ROLE.iter().enumerate() {
            assert!(LOWEST_ROLE[..at].iter().all(|(other, _)| other != act), "{act:?}");
        }
    }

    #[test]
    fn a_refusal_says_who_may() {
        let of = |act| require(MemberRole::Member, act).expect_err("a member may not").message;
        assert!(of(Act::Dissolve).contains("only the owner of"), "{}", of(Act::Dissolve));
        assert!(of(Act::Invite).contains("owner and admins"), "{}", of(Act::Invite));
    }

    #[test]
    fn nobody_outranks_an_equal() {
        for role in ROLES {
            assert!(!outranks(role, role));
        }
        assert!(
            outranks(MemberRole::Owner, MemberRole::Admin) && outranks(MemberRole::Admin, MemberRole::Member)
        );
    }
}
