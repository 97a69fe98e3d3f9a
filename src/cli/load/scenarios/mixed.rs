//! A day of mixed use: who does what is in `blend`, and here it is done.
//!
//! Every user has a friend, is in a small room, and in a big one with ten speakers. Users come and go with the hour; what
//! they miss they fetch by sync. At the end all come, and each must have every message of its conversations.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::super::args::MixedArgs;
use super::super::checker::Written;
use super::super::lean::pacer::Pacer;
use super::super::people::{self, Person};
use super::super::report::{Operation, Report};
use super::blend::{BLEND, Day, Deed, deed_at, online_at, rate_at};
use super::member::{Member, Membership, Parting, Scene, Tally};
use super::{Run, announce, rooms, wait_until};
use crate::protocol::v1::{self, client_frame::Request};

/// Members of a big room who write there.
const SPEAKERS: usize = 10;
/// REST calls under way at once; beyond, they are skipped and counted as such.
const REST_AT_ONCE: usize = 256;
/// Messages of one look into the past.
const HISTORY: u32 = 20;
/// Users whose presence is asked for at once.
const WATCHED: usize = 10;
/// How often it is looked how many should be online.
const POPULATION_PAUSE: Duration = Duration::from_millis(100);
/// Users who may be coming at once.
const COMING_MAX: usize = 64;
/// Users looked at for one to do a deed; most are online most of the day.
const TRIES: usize = 16;
/// Who is cut off comes back within this.
const BACK_WITHIN: Duration = Duration::from_millis(500);
/// How long all may take to come at the end.
const COME_LIMIT: Duration = Duration::from_secs(120);
/// How long what they missed may take to come.
const COMPLETE_LIMIT: Duration = Duration::from_secs(30);

/// The place of each membership in [`Member::memberships`].
const FRIEND: usize = 0;
const SMALL: usize = 1;
const BIG: usize = 2;

/// The town: all users, and what they share.
struct Town {
    members: Vec<Arc<Member>>,
    /// Those who speak in big rooms.
    speakers: Vec<usize>,
    scene: Arc<Scene>,
    tallies: Vec<Arc<Tally>>,
    runtimes: Vec<Handle>,
    rest: Arc<Semaphore>,
    /// Deeds for which nobody was online, or who had too much under way.
    skipped: AtomicU64,
}

pub(super) async fn mixed(run: &Run, args: &MixedArgs) -> anyhow::Result<Report> {
    announce(&format!("signing up {} users …", args.users));
    let people = people::sign_up(&run.args, args.users).await?;
    announce("making rooms …");
    let (over, is_over) = watch::channel(false);
    let town = Arc::new(Town {
        members: found(run, args, &people).await?,
        speakers: speakers(args.users, args.big_room),
        scene: Arc::new(Scene::new(run, is_over)),
        tallies: BLEND.iter().map(|_| Arc::new(Tally::new())).collect(),
        runtimes: (0..run.args.threads).map(|at| run.pool.on(at).clone()).collect(),
        rest: Arc::new(Semaphore::new(REST_AT_ONCE)),
        skipped: AtomicU64::new(0),
    });
    announce("the first come …");
    let at_night = (args.users as f64 * online_at(0.0)).round() as usize;
    let online = || town.scene.online.load(Ordering::Relaxed);
    town.come_all(town.members.iter().take(at_night)).await;

    let day = Day { before: run.args.warm_up as f64, long: run.args.seconds as f64, noon_rate: args.rate };
    let night_falls = Arc::new(AtomicBool::new(false));
    let population = tokio::spawn(populate(Arc::clone(&town), day, args.seed, Arc::clone(&night_falls)));
    let pacer = live(run, args, &town, day)?;
    let mut report = run.measure("mixed", args.users, || false).await;
    drop(pacer);
    night_falls.store(true, Ordering::Relaxed);
    population.await?;

    announce("all come and fetch what they missed …");
    town.come_all(town.members.iter()).await;
    let missing = args.users - town.members.iter().filter(|member| member.is_online()).count();
    wait_until(COMPLETE_LIMIT, || town.members.iter().all(|member| member.is_complete())).await;
    let at_the_end = online();
    over.send_replace(true);
    wait_until(COMPLETE_LIMIT, || online() == 0).await;
    town.judge(&mut report);
    report.refused = run.recorder.refusals();
    report.skipped += town.skipped.load(Ordering::Relaxed);
    report.figure("rate at night and noon", args.rate * rate_at(0.0), "deeds a second, at night");
    report.figure("", args.rate * rate_at(0.5), "deeds a second, at noon");
    report.figure("online at night", at_night as f64, "users");
    report.figure("online at noon", (args.users as f64 * online_at(0.5)).round(), "users");
    report.figure("online at the end", at_the_end as f64, "users");
    report.figure("fetched by sync", town.scene.fetched.load(Ordering::Relaxed) as f64, "messages");
    report.figure("sign-ins that failed", town.scene.failed.load(Ordering::Relaxed) as f64, "");
    if missing > 0 {
        anyhow::bail!(
            "{missing} users could not come at the end, so that what they got can't be judged\n{}",
            report.table()
        );
    }
    Ok(report)
}

/// Numbers of those who speak: the first of each big room.
fn speakers(users: usize, big_room: usize) -> Vec<usize> {
    (0..users).filter(|at| at % big_room < SPEAKERS).collect()
}

/// Makes the conversations, and the members of them.
async fn found(run: &Run, args: &MixedArgs, people: &[Person]) -> anyhow::Result<Vec<Arc<Member>>> {
    // The last of an odd number has no friend but itself would be: it takes the one before.
    let friend = |at: usize| if at ^ 1 < people.len() { at ^ 1 } else { at - 1 };
    let pairs: Vec<(usize, usize)> = (0..people.len())
        .map(|at| (at, friend(at)))
        .filter(|(at, other)| at < other || at % 2 == 0)
        .collect();
    let friendships: Vec<((usize, usize), u64, u64)> = stream::iter(pairs)
        .map(|(a, b)| async move {
            let other = people[b].user_id;
            let made = people::patiently(|| people[a].rest.direct(other)).await?;
            anyhow::Ok(((a, b), made.conversation_id, made.last_seq))
        })
        .buffered(run.args.at_once)
        .try_collect()
        .await?;
    let small = rooms::make(&run.args, people.chunks(args.small_room)).await?;
    let big = rooms::make(&run.args, people.chunks(args.big_room)).await?;

    let mut desks: HashMap<(u64, usize), Arc<Mutex<Written>>> = HashMap::new();
    let mut desk = |conversation: u64, at: usize| Arc::clone(desks.entry((conversation, at)).or_default());
    let mut members = Vec::new();
    for (at, person) in people.iter().enumerate() {
        let Some(&((a, b), direct, last_seq)) = friendships.iter().find(|((a, b), ..)| *a == at || *b == at)
        else {
            anyhow::bail!("user {at} has no friend");
        };
        let mut belong = |id: u64, cursor: u64, writers: &mut dyn Iterator<Item = usize>| {
            let others: Vec<_> = writers
                .filter(|other| *other != at)
                .map(|other| (people[other].user_id, desk(id, other)))
                .collect();
            Membership::new(id, cursor, others, desk(id, at))
        };
        let (small_at, big_at) = (at / args.small_room, at / args.big_room);
        let in_room = |room: usize, size: usize, most: usize| {
            let first = room * size;
            first..(first + size.min(most)).min(people.len())
        };
        let memberships = vec![
            belong(direct, last_seq, &mut [a, b].into_iter()),
            belong(small[small_at], 0, &mut in_room(small_at, args.small_room, usize::MAX)),
            belong(big[big_at], 0, &mut in_room(big_at, args.big_room, SPEAKERS)),
        ];
        members.push(Arc::new(Member::new(person.clone(), at, memberships)));
    }
    Ok(members)
}

/// Has as many users online as the hour asks for.
async fn populate(town: Arc<Town>, day: Day, seed: u64, night_falls: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(seed ^ 1);
    let began = Instant::now();
    while !night_falls.load(Ordering::Relaxed) {
        let part = day.part(began.elapsed().as_secs_f64());
        let wanted = (town.members.len() as f64 * online_at(part)).round() as usize;
        let here = town.scene.here.load(Ordering::Relaxed);
        for _ in here..wanted.min(here + COMING_MAX) {
            town.one_comes(&mut random);
        }
        for _ in wanted..here {
            town.one_goes(&mut random, || Parting::Leave);
        }
        tokio::time::sleep(POPULATION_PAUSE).await;
    }
}

/// Starts the clock by which deeds are done.
fn live(run: &Run, args: &MixedArgs, town: &Arc<Town>, day: Day) -> anyhow::Result<Pacer> {
    let mut random = StdRng::seed_from_u64(args.seed);
    let recorder = Arc::clone(&run.recorder);
    let town = Arc::clone(town);
    let mut at = 0.0;
    let due = move |_| {
        at = day.next(at);
        Some(Duration::from_secs_f64(at))
    };
    let fire = move |_, due: Instant| {
        let place = deed_at(random.random());
        if !town.act(place, recorder.us_of(due), &mut random) && recorder.is_measuring() {
            town.skipped.fetch_add(1, Ordering::Relaxed);
        }
    };
    Pacer::start(run.pool.on(0), due, fire)
}

impl Town {
    /// Has all of these come, some at a time.
    async fn come_all(&self, members: impl Iterator<Item = &Arc<Member>>) {
        let members: Vec<&Arc<Member>> = members.collect();
        for group in members.chunks(COMING_MAX) {
            for member in group {
                self.come(member);
            }
            wait_until(COME_LIMIT, || group.iter().all(|member| member.is_online())).await;
        }
    }

    fn come(&self, member: &Arc<Member>) -> bool {
        let _context = self.runtimes[member.at % self.runtimes.len()].enter();
        member.come(&self.scene, || {})
    }

    fn one_comes(&self, random: &mut StdRng) -> bool {
        (0..TRIES).any(|_| self.come(&self.members[random.random_range(0..self.members.len())]))
    }

    fn one_goes(&self, random: &mut StdRng, parting: impl Fn() -> Parting) -> bool {
        (0..TRIES)
            .any(|_| self.members[random.random_range(0..self.members.len())].part(&self.scene, parting()))
    }

    /// Somebody who is online.
    fn anybody(&self, random: &mut StdRng) -> Option<&Arc<Member>> {
        (0..TRIES)
            .map(|_| &self.members[random.random_range(0..self.members.len())])
            .find(|member| member.is_online())
    }

    /// Does one deed of the blend; `false`: it was skipped.
    fn act(&self, place: usize, due_us: u64, random: &mut StdRng) -> bool {
        let tally = &self.tallies[place];
        match BLEND[place].0 {
            Deed::Direct => self.write(FRIEND, due_us, random, tally),
            Deed::SmallRoom => self.write(SMALL, due_us, random, tally),
            Deed::BigRoom => {
                let speakers = &self.speakers;
                let speaker = (0..TRIES)
                    .map(|_| &self.members[speakers[random.random_range(0..speakers.len())]])
                    .find(|member| member.is_online());
                speaker.is_some_and(|member| member.write(&self.scene, BIG, due_us, Some(tally)))
            }
            Deed::Read => self.mark(due_us, random, tally, Request::Read),
            Deed::Delivered => self.mark(due_us, random, tally, Request::Delivered),
            Deed::Typing => {
                let place = random.random_range(FRIEND..=SMALL);
                self.anybody(random).is_some_and(|member| {
                    let conversation_id = member.memberships[place].conversation_id;
                    let typing = v1::TypingState { conversation_id, active: true };
                    member.ask(Request::Typing(typing), due_us, tally)
                })
            }
            Deed::History => {
                let place = random.random_range(FRIEND..=BIG);
                self.anybody(random).is_some_and(|member| {
                    let conversation_id = member.memberships[place].conversation_id;
                    let past = v1::HistoryRequest {
                        conversation_id,
                        limit: HISTORY,
                        ..v1::HistoryRequest::default()
                    };
                    member.ask(Request::History(past), due_us, tally)
                })
            }
            Deed::Presence => {
                let from = random.random_range(0..self.members.len());
                let watched = self.members.iter().cycle().skip(from).take(WATCHED);
                let user_ids = watched.map(|member| member.person.user_id).collect();
                self.anybody(random).is_some_and(|member| {
                    member.ask(Request::WatchPresence(v1::WatchPresence { user_ids }), due_us, tally)
                })
            }
            Deed::Profile => {
                let other = self.members[random.random_range(0..self.members.len())].person.user_id;
                self.rest(due_us, random, tally, move |member| async move {
                    member.person.rest.user(other).await.is_ok()
                })
            }
            Deed::Members => self.rest(due_us, random, tally, |member| async move {
                let room = member.memberships[BIG].conversation_id;
                member.person.rest.members(room, "").await.is_ok()
            }),
            Deed::Reconnect => {
                let back_after = BACK_WITHIN.mul_f64(random.random());
                let cut = self.one_goes(random, || Parting::Cut { back_after });
                self.count(tally, cut)
            }
            Deed::Churn => {
                let gone = self.one_goes(random, || Parting::Leave);
                let came = self.one_comes(random);
                self.count(tally, gone && came)
            }
        }
    }

    fn write(&self, place: usize, due_us: u64, random: &mut StdRng, tally: &Arc<Tally>) -> bool {
        self.anybody(random).is_some_and(|member| member.write(&self.scene, place, due_us, Some(tally)))
    }

    /// Marks all that somebody has of a conversation.
    fn mark(
        &self,
        due_us: u64,
        random: &mut StdRng,
        tally: &Arc<Tally>,
        request: impl Fn(v1::Cursor) -> Request,
    ) -> bool {
        let place = random.random_range(SMALL..=BIG);
        self.anybody(random).is_some_and(|member| {
            let membership = &member.memberships[place];
            // A conversation without a message yet has nothing to mark.
            let seq = membership.cursor();
            let conversation_id = membership.conversation_id;
            seq > 0 && member.ask(request(v1::Cursor { conversation_id, seq }), due_us, tally)
        })
    }

    fn rest<F>(
        &self,
        due_us: u64,
        random: &mut StdRng,
        tally: &Arc<Tally>,
        call: impl FnOnce(Arc<Member>) -> F,
    ) -> bool
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let Some(member) = self.anybody(random) else { return false };
        let Ok(permit) = Arc::clone(&self.rest).try_acquire_owned() else { return false };
        let (calling, tally, recorder) =
            (call(Arc::clone(member)), Arc::clone(tally), Arc::clone(&self.scene.recorder));
        tokio::spawn(async move {
            let well = calling.await;
            tally.ended(&recorder, due_us, well);
            drop(permit);
        });
        true
    }

    /// What has no answer of its own.
    fn count(&self, tally: &Tally, done: bool) -> bool {
        if done && self.scene.recorder.is_measuring() {
            tally.done.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// What all got and did, into the report.
    fn judge(&self, report: &mut Report) {
        report.checked = Default::default();
        for member in &self.members {
            report.checked.add(member.verdict());
            report.unanswered += member.unanswered();
            report.written += member.memberships.iter().map(Membership::written).sum::<u64>();
        }
        report.closed.extend(self.scene.closed.lock().clone());
        for ((_, name, share), tally) in BLEND.iter().zip(&self.tallies) {
            report.operations.push(Operation {
                name: (*name).into(),
                share_percent: *share,
                done: tally.done.load(Ordering::Relaxed),
                refused: tally.refused.load(Ordering::Relaxed),
                times: tally.times.times(),
            });
        }
        let times = self.scene.sign_ins.times();
        report.operations.push(Operation {
            name: "sign-in".into(),
            share_percent: 0.0,
            done: times.count,
            refused: self.scene.failed.load(Ordering::Relaxed),
            times,
        });
    }
}
