//! How an activation ends: when it has been idle, or when another node owns its room.
//!
//! A room that moves keeps the order of each session's requests, though for a moment both nodes take some. While this
//! node's registry holds the room, questions for it that arise here or are sent here go into its mailbox, whatever the
//! view says (`Inbound::holds`). The room finishes what is in flight, then hands on what it has queued and all that
//! still comes, in order; those questions are this node's from there on, and later ones of this node go behind them. It
//! leaves the registry when its mailbox is empty, so that nothing comes between.
//!
//! If the view turns back while it moves, what was handed on comes home behind what waits in the mailbox: with a mark,
//! and counted while it waits there. The room takes nothing else before all of it has come or is answered, and hands
//! nothing on while some of it waits, nor in the turn of another view than the one by which it has looked for that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use super::actor::{Asked, RoomMessage, RoomState, Waiter};
use super::state::Phase;
use crate::cluster::ReplyTo;
use crate::domain::Error;
use crate::protocol::cluster::{Request, RoomRequest, request};

/// Whether a room takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stay {
    /// It does.
    #[default]
    Here,
    /// Another node is the owner: it stores what it has begun, and keeps what comes.
    Finishing,
    /// It hands on what it has kept, and what still comes.
    Handing,
    /// It is the owner again, and waits for what it had handed on; it keeps what comes.
    Returning,
}

impl Stay {
    /// The word of the admin endpoint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Finishing => "finishing",
            Self::Handing => "handing",
            Self::Returning => "returning",
        }
    }
}

/// Why a room that is the owner wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It has had no work for long. The next request clears this.
    Idle,
    /// Its conversation does not exist.
    Nothing,
    /// Its node stops.
    Finish,
}

/// Views that may come and go while one question is handed on; the room goes on here if there are more.
const TURNS_MAX: usize = 100;

/// Marks of questions that were handed on, unique in the process.
static MARKS: AtomicU64 = AtomicU64::new(1);

/// What an ending room remembers.
#[derive(Default)]
pub struct Leaving {
    /// Whether it takes requests.
    pub stay: Stay,
    /// Whether it wants to end although it is the owner.
    pub wish: Option<Wish>,
    held: VecDeque<Asked>,
    handed: BTreeSet<u64>,
}

impl Leaving {
    /// A question that was handed on is answered.
    pub fn answered(&mut self, mark: u64) {
        self.handed.remove(&mark);
    }

    /// Whether somebody waits here.
    pub fn waits(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the room neither moves nor wants to end.
    pub fn stays(&self) -> bool {
        self.stay == Stay::Here && self.wish.is_none()
    }

    /// Takes out those who have waited for too long.
    pub fn expire(&mut self) -> Vec<Waiter> {
        let (late, held): (VecDeque<Asked>, VecDeque<Asked>) =
            std::mem::take(&mut self.held).into_iter().partition(|asked| asked.waiter.is_late());
        self.held = held;
        late.into_iter().map(|asked| asked.waiter).collect()
    }
}

impl RoomState {
    fn is_owner(&self) -> bool {
        self.actors.cluster().owns(&self.vitals.address)
    }

    /// A request has come.
    pub(super) async fn take_in(&mut self, asked: Asked) {
        if self.leaving.wish == Some(Wish::Idle) {
            self.leaving.wish = None;
        }
        if self.room.is_none() && self.leaving.stay == Stay::Here && !self.is_owner() {
            // On its way when the view changed: there is nothing to finish.
            self.leaving.stay = Stay::Handing;
        }
        if asked.home {
            self.vitals.came_home();
            self.leaving.handed.remove(&asked.waiter.reply.tag());
            if matches!(self.leaving.stay, Stay::Finishing | Stay::Handing) {
                // It goes before what is kept, and before what it would meet on the way out: more that comes home.
                self.come_back();
            }
        }
        match self.leaving.stay {
            Stay::Here => self.request(asked).await,
            Stay::Returning if asked.home => self.request(asked).await,
            Stay::Finishing | Stay::Returning => self.keep(asked),
            Stay::Handing => {
                if let Err(asked) = self.hand_on(asked) {
                    self.come_back();
                    self.keep(*asked);
                }
            }
        }
    }

    fn keep(&mut self, asked: Asked) {
        // The same bound as that of a mailbox.
        if self.leaving.held.len() >= 2 * self.actors.inner.config.room.pending_sends {
            let error =
                "this conversation moves to another node and too much waits for that; try again in a moment";
            return asked.waiter.answer(Err(Error::unavailable(error)));
        }
        self.leaving.held.push_back(asked);
    }

    /// Another node may be the owner now.
    pub(super) async fn retire(&mut self) {
        if self.leaving.stay != Stay::Here || self.is_owner() {
            return;
        }
        self.settle_doubt().await;
        self.leaving.stay = Stay::Finishing;
        // Its own last messages are nobody else's to push again.
        if let Some(since_ms) = self.actors.in_doubt_since() {
            self.push_again(since_ms);
        }
        self.tell_receipts();
        self.end_typing();
        self.start_storing_cursors();
        self.pump();
    }

    /// Wants to end although this node is the owner.
    pub(super) async fn end_when_idle(&mut self, wish: Wish) {
        if self.leaving.stay != Stay::Here {
            return;
        }
        self.settle_doubt().await;
        if wish == Wish::Finish {
            self.tell_receipts();
            self.start_storing_cursors();
        }
        self.leaving.wish = Some(wish);
    }

    /// Storage may be back: what was in doubt is pushed if it is there, and the room can end.
    async fn settle_doubt(&mut self) {
        if self.room.as_ref().is_some_and(|room| room.phase() == Phase::Unsettled) {
            // If not, the next activation finds out.
            let _ = self.settle().await;
        }
    }

    /// What follows from a message: the next step of ending, if there is one.
    pub(super) async fn proceed(&mut self) {
        loop {
            match self.leaving.stay {
                Stay::Here => return self.end_if_idle(),
                Stay::Finishing => {
                    if self.is_owner() {
                        self.come_back();
                    } else if self.has_finished() {
                        self.queue_first();
                        self.leaving.stay = Stay::Handing;
                    } else {
                        return;
                    }
                }
                Stay::Handing => match self.hand_on_all() {
                    Ok(()) => return self.end(),
                    Err(()) => self.come_back(),
                },
                Stay::Returning => {
                    if !self.leaving.handed.is_empty() || self.vitals.home() > 0 {
                        return;
                    }
                    self.leaving.stay = Stay::Here;
                    if self.room.as_ref().is_some_and(|room| room.pending() > 0) {
                        // Whoever waits is told if it fails.
                        let _ = self.settle().await;
                        self.pump();
                    }
                    for asked in std::mem::take(&mut self.leaving.held) {
                        self.request(asked).await;
                    }
                    // What was told of another owner meanwhile found a room that was moving.
                    self.retire().await;
                }
            }
        }
    }

    fn has_finished(&self) -> bool {
        let stored = self.room.as_ref().is_none_or(|room| {
            room.phase() != Phase::InFlight && !(room.has_announcement() && room.phase() == Phase::Settled)
        });
        stored && !self.cursors.are_flying()
    }

    /// Puts the queued sends before all that came later.
    fn queue_first(&mut self) {
        let Some(room) = &mut self.room else { return };
        let sends: Vec<Asked> = room
            .take_queue()
            .into_iter()
            .map(|(user_id, session_id, command, waiter)| {
                let command = Some(command);
                Asked {
                    request: RoomRequest { user_id, session_id, command },
                    waiter,
                    handovers: 0,
                    home: false,
                }
            })
            .collect();
        for asked in sends.into_iter().rev() {
            self.leaving.held.push_front(asked);
        }
    }

    fn hand_on_all(&mut self) -> Result<(), ()> {
        while let Some(asked) = self.leaving.held.pop_front() {
            if let Err(asked) = self.hand_on(asked) {
                self.leaving.held.push_front(*asked);
                return Err(());
            }
        }
        Ok(())
    }

    /// Hands a request on to the owner; given back if that is this node, or was for a moment: then earlier ones have come
    /// home and wait in the mailbox.
    fn hand_on(&mut self, asked: Asked) -> Result<(), Box<Asked>> {
        let Asked { request, waiter: Waiter { reply, since, deadline }, handovers, home } = asked;
        let mark = MARKS.fetch_add(1, Ordering::Relaxed);
        let myself = self.myself.clone();
        let standing = reply.standing().cloned();
        let tagged = ReplyTo::tagged(mark, move |answer| {
            reply.send(answer);
            // A room that has ended does not come back.
            let _ = myself.cast(RoomMessage::Answered(mark));
        });
        let mut reply = tagged.with_standing(standing);
        let mut request = Request { request: Some(request::Request::Room(request)) };
        for _ in 0..TURNS_MAX {
            // First the turn, then the look: what comes home after it ends the turn.
            let cluster = self.actors.cluster();
            let turn = cluster.turn();
            if self.vitals.home() > 0 || cluster.owns(&self.vitals.address) {
                break;
            }
            match cluster.hand_on(self.vitals.address, request, deadline, handovers, reply, turn) {
                Ok(()) => {
                    self.leaving.handed.insert(mark);
                    return Ok(());
                }
                Err(back) => (request, reply) = *back,
            }
        }
        let request = match request.request {
            Some(request::Request::Room(request)) => request,
            _ => RoomRequest::default(),
        };
        Err(Box::new(Asked { request, waiter: Waiter { reply, since, deadline }, handovers, home }))
    }

    /// The owner again, or for a moment: goes on where it was, once all that it had handed on is home or answered.
    fn come_back(&mut self) {
        self.leaving.stay = Stay::Returning;
        // The other may have written meanwhile.
        if let Some(room) = &mut self.room
            && room.phase() == Phase::Settled
        {
            room.unsettle();
        }
    }

    fn end_if_idle(&mut self) {
        let Some(wish) = self.leaving.wish else { return };
        let quiet = self.room.as_ref().is_none_or(|room| match wish {
            Wish::Idle => room.is_idle() && self.in_doubt.is_empty(),
            // What could not be stored by now is given up.
            Wish::Nothing | Wish::Finish => room.pending() == 0,
        });
        if quiet && !self.cursors.are_flying() && !self.cursors.waits() {
            self.end();
        } else if wish == Wish::Idle {
            self.leaving.wish = None;
        }
    }

    /// Leaves the registry and stops, unless something waits in the mailbox.
    fn end(&mut self) {
        if self.actors.inner.rooms.remove_if_empty(self.vitals.address, self.vitals.activation) {
            self.tell_members();
            self.end_typing();
            self.myself.stop(None);
        } else if self.leaving.wish == Some(Wish::Idle) {
            self.leaving.wish = None;
        }
    }
}
