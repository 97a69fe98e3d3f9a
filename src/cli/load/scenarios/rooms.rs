//! Group rooms, all of whose members are online. With several writers and several messages of each under way, the
//! frames for one socket leave together: busy rooms.

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::super::args::{LoadArgs, RoomArgs};
use super::super::lean::Destination;
use super::super::people::{self, Person};
use super::super::report::Report;
use super::play::{Circle, play};
use super::{Run, announce};

/// Members named in one call, by the protocol.
const MEMBERS_AT_ONCE: usize = crate::domain::limits::MEMBER_IDS_MAX;

pub(super) async fn room(run: &Run, name: &str, args: &RoomArgs) -> anyhow::Result<Report> {
    let users = args.rooms * args.members;
    announce(&format!("signing up {users} users …"));
    let people = people::sign_up(&run.args, users).await?;
    announce("making rooms …");
    let ids = make(&run.args, people.chunks(args.members)).await?;
    announce("connecting …");
    let mut online = people::connect(run, &people, 0, |at| at).await?.into_iter();
    let circles = ids.into_iter().map(|id| Circle {
        destination: Destination::Conversation(id),
        people: online.by_ref().take(args.members).collect(),
        writers: args.writers,
        writers_receive: true,
    });
    play(run, name, circles.collect(), args.pace).await
}

/// A room for each of these groups of people, owned by its first.
pub(super) async fn make<'a>(
    args: &LoadArgs,
    groups: impl IntoIterator<Item = &'a [Person]>,
) -> anyhow::Result<Vec<u64>> {
    stream::iter(groups)
        .map(|members| async move {
            let (owner, others) = members.split_first().context("a room has members")?;
            let ids: Vec<u64> = others.iter().map(|person| person.user_id).collect();
            let first = &ids[..ids.len().min(MEMBERS_AT_ONCE)];
            let made = people::patiently(|| owner.rest.create_group("load", "", "open", first)).await?;
            for more in ids[first.len()..].chunks(MEMBERS_AT_ONCE) {
                people::patiently(|| owner.rest.add_members(made.conversation_id, more)).await?;
            }
            anyhow::Ok(made.conversation_id)
        })
        .buffered(args.at_once)
        .try_collect()
        .await
        .context("the rooms can't be made")
}
