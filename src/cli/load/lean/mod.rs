//! A client as lean as a generator needs: it shares the cores with the server that it measures.
//!
//! A connection is a [`Link`] to write by, from anywhere, and an [`Inlet`] to read by, in one task. There is no task,
//! channel or timer of its own: the reader hands over what it has read in place, all frames of one read in one go, and
//! what is written in answer leaves in one write. `frames` and `scan` are the pure parts, `pool` the threads, `pacer`
//! the clock of open loops. People who chat use `crate::client`, which has all that is left out here.

mod connect;
mod frames;
mod inlet;
mod link;
pub(super) mod pacer;
pub(super) mod pool;
mod scan;

pub(super) use self::connect::connect;
pub(super) use self::inlet::Inlet;
pub(super) use self::link::Link;
pub(super) use self::scan::Incoming;
use crate::protocol::codec::Format;

/// The `reply_to` that [`Inlet::ask`] waits for; far above what a run counts to, and below 2^53.
const ASK_TAG: u64 = 1 << 51;
/// Questions that nobody waits for by number, such as heartbeats, bear this one.
pub(super) const IDLE_TAG: u64 = ASK_TAG + 1;

/// How a connection is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    WsJson,
    WsProto,
    Tcp,
    Line,
}

impl Framing {
    fn format(self) -> Format {
        match self {
            Self::WsJson => Format::Json,
            Self::WsProto | Self::Tcp => Format::Proto,
            Self::Line => Format::Line,
        }
    }
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    User(u64),
    Conversation(u64),
}

/// What a user signs in with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials<'a> {
    pub(super) token: &'a str,
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::checker::Stamp;
    use crate::client::Transport;
    use crate::client::test_server::TestServer;

    const GOOD: Credentials<'static> = Credentials { token: "good", username: "", password: "" };

    #[tokio::test]
    async fn every_framing_of_frames_signs_in_and_sends() {
        for (transport, framing) in [
            (Transport::WebSocketJson, Framing::WsJson),
            (Transport::WebSocketProto, Framing::WsProto),
            (Transport::Tcp, Framing::Tcp),
        ] {
            let server = TestServer::start(transport).await;
            let mut inlet = connect(&server.address, framing, None).await.expect("it listens");
            assert!(inlet.sign_in(GOOD).await.expect("the token is good") > 0);
            for number in 0..50 {
                let stamp = Stamp { run: 1, number, due_us: 0 };
                inlet.link.message(Destination::Conversation(1), 1, stamp, 200);
            }
            inlet.link.flush();
            let mut answered = 0;
            while answered < 50 {
                inlet
                    .turn(|incoming| {
                        if let Incoming::Sent { reply_to, .. } = incoming {
                            assert_eq!(reply_to, answered);
                            answered += 1;
                        }
                    })
                    .await
                    .expect("the server stays");
            }
            inlet.close().await;
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let error = connect("127.0.0.1:1", Framing::Tcp, None).await.expect_err("nothing listens there");
        assert!(error.to_string().contains("127.0.0.1:1 can't be reached"), "{error}");
    }
}
