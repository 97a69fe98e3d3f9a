//! All users lose their connections at once, and come back with jitter and back-off, while others write to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::args::{Pace, ReconnectArgs, SECONDS_MAX};
use super::super::lean::Destination;
use super::super::people;
use super::super::report::{Operation, Report};
use super::member::{Member, Membership, Parting, Scene};
use super::play::{Cast, Circle};
use super::{Run, announce, rooms, wait_until};

/// How long the first coming of all may take.
const COME_LIMIT: Duration = Duration::from_secs(300);
/// Longer than any warm-up.
const MEASURING_LIMIT: Duration = Duration::from_secs(2 * SECONDS_MAX);
/// How long what was sent meanwhile may take to come, at the end.
const COMPLETE_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn reconnect(run: &Run, args: &ReconnectArgs) -> anyhow::Result<Report> {
    let room_count = args.users.div_ceil(args.members);
    announce(&format!("signing up {} users …", args.users + room_count));
    let people = people::sign_up(&run.args, args.users + room_count).await?;
    let (writers, users) = people.split_at(room_count);
    announce("making rooms …");
    let groups: Vec<Vec<people::Person>> = writers
        .iter()
        .zip(users.chunks(args.members))
        .map(|(writer, members)| [std::slice::from_ref(writer), members].concat())
        .collect();
    let ids = rooms::make(&run.args, groups.iter().map(Vec::as_slice)).await?;
    announce("connecting …");
    let online = people::connect(run, writers, 0, |at| at).await?;
    let circles = online.into_iter().zip(&ids).map(|(writer, id)| Circle {
        destination: Destination::Conversation(*id),
        people: vec![writer],
        writers: 1,
        writers_receive: false,
    });
    let pace = Pace { rate: Some(args.rate), in_flight: 1 };
    let cast = Cast::enter(run, circles.collect(), pace, None);

    let (over, is_over) = watch::channel(false);
    let scene = Arc::new(Scene::new(run, is_over));
    let mut members = Vec::new();
    for (at, person) in users.iter().enumerate() {
        let room = at / args.members;
        let writer = &cast.writers[room];
        let written = vec![(writer.user_id, Arc::clone(&writer.written))];
        // From the beginning: all of the room is this run's.
        let membership = Membership::new(ids[room], 0, written, Arc::default());
        members.push(Arc::new(Member::new(person.clone(), room_count + at, vec![membership])));
    }
    let cut_at_us: Arc<Mutex<Option<u64>>> = Arc::default();
    let back_us: Arc<Mutex<Vec<u64>>> = Arc::default();
    // As many at once as for sign-up: the storm comes later.
    for group in members.chunks(run.args.at_once) {
        for member in group {
            let (cut_at_us, back_us) = (Arc::clone(&cut_at_us), Arc::clone(&back_us));
            let recorder = Arc::clone(&run.recorder);
            let _context = run.pool.on(member.at).enter();
            let counted = AtomicBool::new(false);
            member.come(&scene, move || {
                if let Some(cut) = *cut_at_us.lock()
                    && !counted.swap(true, Ordering::Relaxed)
                {
                    back_us.lock().push(recorder.now_us() - cut);
                }
            });
        }
        wait_until(COME_LIMIT, || group.iter().all(|member| member.is_online())).await;
    }
    if let Some(away) = members.iter().find(|member| !member.is_online()) {
        anyhow::bail!("user {} can't come online; see the server's log", away.person.user_id);
    }
    let pacer = cast.pace(run, pace.rate)?;
    // The warm-up passes in `measure`, and the cut follows as soon as measuring has begun.
    let done = AtomicBool::new(false);
    let storm = async {
        wait_until(MEASURING_LIMIT, || run.recorder.is_measuring() || done.load(Ordering::Relaxed)).await;
        announce(&format!("cutting {} connections …", members.len()));
        *cut_at_us.lock() = Some(run.recorder.now_us());
        let mut cut = 0;
        for member in &members {
            let back_after = Duration::from_millis(args.jitter_ms).mul_f64(rand::random());
            cut += usize::from(member.part(&scene, Parting::Cut { back_after }));
        }
        cut
    };
    let all_back = || back_us.lock().len() >= members.len();
    let (mut report, cut) = tokio::join!(
        async {
            let report = run.measure("reconnect", cast.connections + args.users, all_back).await;
            done.store(true, Ordering::Relaxed);
            report
        },
        storm
    );
    drop(pacer);
    cast.leave(run, &mut report).await?;
    wait_until(COMPLETE_LIMIT, || members.iter().all(|member| member.is_complete())).await;
    over.send_replace(true);
    wait_until(COMPLETE_LIMIT, || scene.online.load(Ordering::Relaxed) == 0).await;
    members.iter().for_each(|member| report.checked.add(member.verdict()));
    report.closed.extend(scene.closed.lock().clone());
    let mut back = std::mem::take(&mut *back_us.lock());
    back.sort_unstable();
    report.figure("cut off", cut as f64, "connections");
    report.figure("back", back.len() as f64, "connections");
    for (name, share) in [("50 % back", 0.5), ("99 % back", 0.99), ("100 % back", 1.0)] {
        // The smallest count that is so large a share of those cut off.
        let wanted = (cut as f64 * share).ceil() as usize;
        if let Some(us) = wanted.checked_sub(1).and_then(|at| back.get(at)) {
            report.figure(name, *us as f64 / 1e6, "s after the cut");
        }
    }
    report.figure("fetched by sync", scene.fetched.load(Ordering::Relaxed) as f64, "messages");
    report.figure("tries that failed", scene.failed.load(Ordering::Relaxed) as f64, "");
    let times = scene.sign_ins.times();
    report.operations.push(Operation {
        name: "sign-in after the cut".into(),
        share_percent: 100.0,
        done: times.count,
        refused: scene.failed.load(Ordering::Relaxed),
        times,
    });
    if back.len() < cut {
        anyhow::bail!(
            "{} of {cut} users did not come back within {} s; give them more with --seconds\n{}",
            cut - back.len(),
            run.args.seconds,
            report.table()
        );
    }
    Ok(report)
}
