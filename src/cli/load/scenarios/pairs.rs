//! Pairs of users; one of each writes to the other.

use super::super::args::{Pace, PairArgs};
use super::super::lean::Destination;
use super::super::people;
use super::super::report::Report;
use super::play::{Circle, play};
use super::{Run, announce};

pub(super) async fn direct(run: &Run, args: &PairArgs) -> anyhow::Result<Report> {
    let circles = connect(run, args.pairs, usize::from(!args.same_node)).await?;
    let pace: Pace = args.pace;
    play(run, "direct", circles, pace).await
}

/// Pairs, each of a writer and a receiver. The receiver is `nodes_apart` nodes behind the writer.
async fn connect(run: &Run, pairs: usize, nodes_apart: usize) -> anyhow::Result<Vec<Circle>> {
    announce(&format!("signing up {} users …", pairs * 2));
    let people = people::sign_up(&run.args, pairs * 2).await?;
    announce("connecting …");
    let (writers, receivers) = people.split_at(pairs);
    let writers = people::connect(run, writers, 0, |at| at).await?;
    let receivers = people::connect(run, receivers, pairs, |at| at + nodes_apart).await?;
    let circle = |(writer, receiver): (people::Online, people::Online)| Circle {
        destination: Destination::User(receiver.user_id),
        people: vec![writer, receiver],
        writers: 1,
        writers_receive: false,
    };
    Ok(writers.into_iter().zip(receivers).map(circle).collect())
}
