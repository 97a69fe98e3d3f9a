//! A user who comes and goes: signs in, syncs what was missed, receives, is cut off, and comes back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::super::checker::{self, Stamp, Verdict, Written};
use super::super::gapless::{Gapless, Item};
use super::super::lean::pool::Holder;
use super::super::lean::{self, Destination, Framing, Incoming, Inlet, Link};
use super::super::measure::{Recorder, Stopwatch};
use super::super::people::Person;
use super::Run;
use crate::client::{ClientError, Close};
use crate::protocol::v1::{self, client_frame::Request, server_frame::Body};

/// First pause before a connection is tried again; it doubles, and a random half is taken off.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Unanswered requests of one member; beyond, its deeds are skipped and counted as such.
const UNANSWERED_MAX: usize = 200;
/// Pages of one sync; more is a server that never comes to an end.
const PAGES_MAX: usize = 100_000;

/// What all members share.
pub(super) struct Scene {
    endpoints: Vec<String>,
    framing: Framing,
    run: u32,
    payload: usize,
    pub(super) recorder: Arc<Recorder>,
    holder: Holder,
    /// Ends everything.
    over: watch::Receiver<bool>,
    /// Connected, with what they missed fetched.
    pub(super) online: AtomicUsize,
    /// Online, on their way, or cut off and about to come back.
    pub(super) here: AtomicUsize,
    pub(super) sign_ins: Stopwatch,
    /// Connections and sign-ins that failed and were tried again.
    pub(super) failed: AtomicU64,
    /// Messages that came by sync.
    pub(super) fetched: AtomicU64,
    /// Connections that the server ended, by reason.
    pub(super) closed: Mutex<BTreeMap<String, u64>>,
}

impl Scene {
    pub(super) fn new(run: &Run, over: watch::Receiver<bool>) -> Self {
        Self {
            endpoints: run.args.endpoints().to_vec(),
            framing: run.args.transport.into(),
            run: run.number,
            payload: run.args.payload,
            recorder: Arc::clone(&run.recorder),
            holder: run.pool.holder(),
            over,
            online: AtomicUsize::new(0),
            here: AtomicUsize::new(0),
            sign_ins: Stopwatch::new(),
            failed: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            closed: Mutex::default(),
        }
    }
}

/// How a member's connection is to end.
#[derive(Debug)]
pub(super) enum Parting {
    /// It signs off and stays away.
    Leave,
    /// It is cut off, and comes back after so long.
    Cut { back_after: Duration },
}

/// A conversation that a member is in.
pub(super) struct Membership {
    pub(super) conversation_id: u64,
    log: Mutex<Gapless>,
    /// What the log's writers have written, in its order.
    writers: Vec<Arc<Mutex<Written>>>,
    /// The member's own writing there.
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    next: u64,
    written: Arc<Mutex<Written>>,
}

impl Membership {
    /// `cursor`: where the conversation stood before the run. `writers`: everybody's who is to be checked but the
    /// member's own; `own`: the member's.
    pub(super) fn new(
        conversation_id: u64,
        cursor: u64,
        writers: Vec<(u64, Arc<Mutex<Written>>)>,
        own: Arc<Mutex<Written>>,
    ) -> Self {
        let (ids, writers): (Vec<u64>, Vec<_>) = writers.into_iter().unzip();
        Self {
            conversation_id,
            log: Mutex::new(Gapless::new(cursor, ids)),
            writers,
            desk: Mutex::new(Desk { next: 0, written: own }),
        }
    }

    /// Up to where the member has it.
    pub(super) fn cursor(&self) -> u64 {
        self.log.lock().cursor()
    }

    /// Messages that the member has written there.
    pub(super) fn written(&self) -> u64 {
        self.desk.lock().next
    }

    fn is_complete(&self) -> bool {
        self.log.lock().is_complete(self.writers.iter().map(AsRef::as_ref))
    }

    fn verdict(&self) -> Verdict {
        self.log.lock().verdict(self.writers.iter().map(AsRef::as_ref))
    }
}

/// An unanswered request.
struct Asked {
    tag: u64,
    due_us: u64,
    /// A message: its place among the memberships, and its number there.
    message: Option<(usize, u64)>,
    /// Where the time goes, for what is no message.
    deed: Option<Arc<Tally>>,
}

/// Times and counts of one kind of deed.
pub(super) struct Tally {
    pub(super) times: Stopwatch,
    pub(super) done: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { times: Stopwatch::new(), done: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// It was done, from when it was due until now; counted while measuring.
    pub(super) fn ended(&self, recorder: &Recorder, due_us: u64, well: bool) {
        if recorder.is_measuring() {
            if well {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.times.took_us(recorder.now_us().saturating_sub(due_us));
            } else {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// One such user.
pub(super) struct Member {
    pub(super) person: Person,
    pub(super) at: usize,
    pub(super) memberships: Vec<Membership>,
    by_conversation: HashMap<u64, usize>,
    state: Mutex<State>,
    /// The latest `sync_token`.
    token: Mutex<String>,
}

#[derive(Default)]
struct State {
    /// A task plays the member, whether the connection stands or not.
    played: bool,
    /// By which that task is told to part.
    parting: Option<oneshot::Sender<Parting>>,
    /// The connection, once what was missed has been fetched.
    link: Option<Arc<Link>>,
    next_tag: u64,
    asked: VecDeque<Asked>,
    /// Requests that no answer came to before the connection ended.
    unanswered: u64,
}

impl Member {
    pub(super) fn new(person: Person, at: usize, memberships: Vec<Membership>) -> Self {
        let by_conversation =
            memberships.iter().enumerate().map(|(place, one)| (one.conversation_id, place)).collect();
        Self { person, at, memberships, by_conversation, state: Mutex::default(), token: Mutex::default() }
    }

    /// Whether it is connected and has fetched what it missed.
    pub(super) fn is_online(&self) -> bool {
        self.state.lock().link.is_some()
    }

    /// Whether all that was stored has come to it.
    pub(super) fn is_complete(&self) -> bool {
        self.memberships.iter().all(Membership::is_complete)
    }

    pub(super) fn verdict(&self) -> Verdict {
        let mut sum = Verdict::default();
        self.memberships.iter().for_each(|one| sum.add(one.verdict()));
        sum
    }

    /// Requests that were never answered.
    pub(super) fn unanswered(&self) -> u64 {
        let state = self.state.lock();
        state.unanswered + state.asked.len() as u64
    }

    /// Comes online, if it isn't: `came` is called each time that it is back and has what it missed. To be called
    /// within the member's runtime.
    pub(super) fn come(
        self: &Arc<Self>,
        scene: &Arc<Scene>,
        came: impl Fn() + Send + Sync + 'static,
    ) -> bool {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.played, true) {
            return false;
        }
        let (parting, told) = oneshot::channel();
        state.parting = Some(parting);
        drop(state);
        scene.here.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(Arc::clone(self).stay(Arc::clone(scene), told, came));
        true
    }

    /// Ends its connection, if it has one.
    pub(super) fn part(&self, scene: &Scene, parting: Parting) -> bool {
        let mut state = self.state.lock();
        // One that is just coming is left alone.
        if state.link.is_none() {
            return false;
        }
        let Some(told) = state.parting.take() else { return false };
        state.link = None;
        scene.online.fetch_sub(1, Ordering::Relaxed);
        if matches!(parting, Parting::Leave) {
            scene.here.fetch_sub(1, Ordering::Relaxed);
        }
        told.send(parting).is_ok()
    }

    /// Writes a message, if it is online. Whether it was written.
    pub(super) fn write(&self, scene: &Scene, place: usize, due_us: u64, deed: Option<&Arc<Tally>>) -> bool {
        let Some((link, tag)) = self.may_ask() else { return false };
        let membership = &self.memberships[place];
        let mut desk = membership.desk.lock();
        let number = desk.next;
        desk.next += 1;
        self.note(Asked { tag, due_us, message: Some((place, number)), deed: deed.cloned() });
        let stamp = Stamp { run: scene.run, number, due_us };
        let to = Destination::Conversation(membership.conversation_id);
        link.message_tagged(tag, to, self.person.user_id, stamp, scene.payload);
        drop(desk);
        link.flush();
        true
    }

    /// Asks something else, if it is online. Whether it was asked.
    pub(super) fn ask(&self, request: Request, due_us: u64, deed: &Arc<Tally>) -> bool {
        let Some((link, tag)) = self.may_ask() else { return false };
        self.note(Asked { tag, due_us, message: None, deed: Some(Arc::clone(deed)) });
        link.request(tag, request);
        link.flush();
        true
    }

    fn may_ask(&self) -> Option<(Arc<Link>, u64)> {
        let mut state = self.state.lock();
        let link = state.link.clone().filter(|link| link.has_room())?;
        if state.asked.len() >= UNANSWERED_MAX {
            return None;
        }
        state.next_tag += 1;
        Some((link, state.next_tag))
    }

    fn note(&self, asked: Asked) {
        self.state.lock().asked.push_back(asked);
    }

    /// Stays until it is told to leave, reconnecting whenever the connection ends.
    async fn stay(
        self: Arc<Self>,
        scene: Arc<Scene>,
        told: oneshot::Receiver<Parting>,
        came: impl Fn() + Send + Sync + 'static,
    ) {
        let mut told = told;
        let mut over = scene.over.clone();
        let mut over = pin!(async move { drop(over.wait_for(|over| *over).await) });
        loop {
            let inlet = tokio::select! {
                inlet = self.sign_in_again_and_again(&scene) => inlet,
                () = &mut over => break,
            };
            let attending = self.attend(&scene, inlet, &mut told, &came);
            let parting = tokio::select! {
                parting = attending => parting,
                () = &mut over => Ok(None),
            };
            self.lost_connection(&scene);
            let back_after = match parting {
                Ok(Some(Parting::Cut { back_after })) => {
                    let (parting, next) = oneshot::channel();
                    self.state.lock().parting = Some(parting);
                    told = next;
                    back_after
                }
                Ok(Some(Parting::Leave)) => {
                    self.state.lock().played = false;
                    return;
                }
                Ok(None) => break,
                Err(close) => {
                    *scene.closed.lock().entry(close.to_string()).or_default() += 1;
                    RETRY_MIN
                }
            };
            tokio::select! {
                () = sleep(back_after) => {}
                () = &mut over => break,
            }
        }
        scene.here.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        (state.played, state.parting) = (false, None);
    }

    fn lost_connection(&self, scene: &Scene) {
        let mut state = self.state.lock();
        if state.link.take().is_some() {
            scene.online.fetch_sub(1, Ordering::Relaxed);
        }
        state.unanswered += state.asked.len() as u64;
        state.asked.clear();
    }

    /// With a jittered back-off.
    async fn sign_in_again_and_again(&self, scene: &Arc<Scene>) -> Inlet {
        let mut pause = RETRY_MIN;
        loop {
            let began_us = scene.recorder.now_us();
            let endpoint = &scene.endpoints[self.at % scene.endpoints.len()];
            let signing_in = async {
                let mut inlet = lean::connect(endpoint, scene.framing, None).await?;
                inlet.sign_in(self.person.credentials()).await?;
                Ok::<_, ClientError>(inlet)
            };
            match signing_in.await {
                Ok(inlet) => {
                    if scene.recorder.is_measuring() {
                        scene.sign_ins.took_us(scene.recorder.now_us() - began_us);
                    }
                    scene.holder.hold(&inlet.link);
                    return inlet;
                }
                Err(error) => {
                    scene.failed.fetch_add(1, Ordering::Relaxed);
                    let asked = Duration::from_millis(error.retry_after_ms());
                    sleep(pause.max(asked).mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Syncs, then receives until told to part. `Err`: the server or the network ended it.
    async fn attend(
        &self,
        scene: &Scene,
        mut inlet: Inlet,
        told: &mut oneshot::Receiver<Parting>,
        came: &impl Fn(),
    ) -> Result<Option<Parting>, Close> {
        self.memberships.iter().for_each(|one| one.log.lock().connected());
        self.sync(scene, &mut inlet).await.map_err(|error| Close::broken(error.to_string()))?;
        self.state.lock().link = Some(Arc::clone(&inlet.link));
        scene.online.fetch_add(1, Ordering::Relaxed);
        came();
        loop {
            tokio::select! {
                biased;
                turned = inlet.turn(|incoming| self.take(scene, incoming)) => turned?,
                parting = &mut *told => {
                    let parting = parting.ok();
                    match &parting {
                        Some(Parting::Cut { .. }) => inlet.cut(),
                        _ => inlet.close().await,
                    }
                    return Ok(parting);
                }
            }
            if self.memberships.iter().any(|one| one.log.lock().has_gap()) {
                self.sync(scene, &mut inlet).await.map_err(|error| Close::broken(error.to_string()))?;
            }
        }
    }

    /// Fetches all behind the member's cursors, and the list of what else has changed.
    async fn sync(&self, scene: &Scene, inlet: &mut Inlet) -> Result<(), ClientError> {
        let mut page = String::new();
        for _ in 0..PAGES_MAX {
            let cursor =
                |one: &Membership| v1::Cursor { conversation_id: one.conversation_id, seq: one.cursor() };
            let request = v1::SyncRequest {
                cursors: self.memberships.iter().map(cursor).collect(),
                since: self.token.lock().clone(),
                page: std::mem::take(&mut page),
                ..v1::SyncRequest::default()
            };
            let answer = inlet.ask(Request::Sync(request), |incoming| self.take(scene, incoming)).await?;
            let Some(Body::SyncPage(got)) = answer else {
                return Err(ClientError::Protocol(format!("sync was answered with {answer:?}")));
            };
            scene.fetched.fetch_add(got.messages.len() as u64, Ordering::Relaxed);
            for message in &got.messages {
                if let Some(place) = self.by_conversation.get(&message.conversation_id) {
                    let stamp = checker::read(message.text.as_bytes());
                    let item = self.item(scene, message.sender_id, stamp);
                    self.memberships[*place].log.lock().fetched(message.seq, item);
                }
            }
            if !got.sync_token.is_empty() {
                *self.token.lock() = got.sync_token;
            }
            page = got.next_page;
            if !got.more && page.is_empty() {
                return Ok(());
            }
        }
        Err(ClientError::Protocol(format!("sync did not come to an end within {PAGES_MAX} pages")))
    }

    fn item(&self, scene: &Scene, sender_id: u64, stamp: Option<Stamp>) -> Item {
        let ours = |stamp: &Stamp| stamp.run == scene.run && sender_id != self.person.user_id;
        Item { sender_id, stamp: stamp.filter(ours) }
    }

    fn take(&self, scene: &Scene, incoming: Incoming) {
        match incoming {
            Incoming::Message { conversation_id, seq, sender_id, stamp } => {
                let Some(place) = self.by_conversation.get(&conversation_id) else { return };
                let item = self.item(scene, sender_id, stamp);
                if let Some(stamp) = item.stamp {
                    scene.recorder.delivered_at(stamp.due_us, scene.recorder.now_us());
                }
                self.memberships[*place].log.lock().pushed(seq, item);
            }
            Incoming::Sent { reply_to, conversation_id, seq } => {
                if let Some(place) = self.by_conversation.get(&conversation_id) {
                    let item = Item { sender_id: self.person.user_id, stamp: None };
                    self.memberships[*place].log.lock().pushed(seq, item);
                }
                self.answered(scene, reply_to, true);
            }
            Incoming::Done { reply_to } | Incoming::Answer { reply_to, .. } => {
                self.answered(scene, reply_to, true);
            }
            Incoming::Refused { reply_to, .. } => self.answered(scene, reply_to, false),
            Incoming::Event | Incoming::Line(_) => {}
        }
    }

    fn answered(&self, scene: &Scene, tag: u64, well: bool) {
        let mut state = self.state.lock();
        let Some(at) = state.asked.iter().position(|asked| asked.tag == tag) else { return };
        let Some(asked) = state.asked.remove(at) else { return };
        drop(state);
        if let Some((place, number)) = asked.message {
            if well {
                self.memberships[place].desk.lock().written.lock().stored(number);
                scene.recorder.acked(asked.due_us);
            } else {
                scene.recorder.refused();
            }
        }
        if let Some(deed) = asked.deed {
            deed.ended(&scene.recorder, asked.due_us, well);
        }
    }
}
