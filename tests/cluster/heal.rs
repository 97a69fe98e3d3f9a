//! What live delivery makes good by itself after a fault, without a sync and without another message.

use std::time::Duration;

use rookery::client::Transport;
use rookery::client::connection::Incoming;
use rookery::protocol::v1::server_frame::Body;

use crate::checker::Target;
use crate::device::{send_to, sign_in};
use crate::mariadb_server::MariaDb;
use crate::people::People;
use crate::world::{Cluster, VIEW_TIMEOUT, eventually, seed, within};

/// Rooms made to find one that the frozen node does not own.
const ROOMS_MADE_MAX: usize = 40;
/// How long after a node's return its clients may wait for what was sent meanwhile; generous, for slow machines.
const COMPLETE_AGAIN: Duration = Duration::from_secs(15);
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_node_that_was_cut_off_get_live_what_was_sent_meanwhile() {
    within(TEST_TIMEOUT, "live delivery after a freeze", async {
        // Not on SQLite: a process that stands still amid a write keeps the file's lock.
        let cluster = Cluster::on(3, MariaDb::shared().await.database().await).await;
        let rest = cluster.rest();
        let mut people = People::new(&cluster, seed(), 2).await;
        let frozen = 1;
        let mut room = None;
        for _ in 0..ROOMS_MADE_MAX {
            let made = people.group(&rest, &[0, 1]).await;
            if cluster.owner_of_room(0, made).await != frozen {
                room = Some(made);
                break;
            }
        }
        let room = Target::Conversation(room.expect("two nodes of three own most rooms"));
        let sender = people.endpoints.get(0, Transport::WebSocketJson);
        let (sender, sender_events, _) =
            sign_in(&sender, Transport::WebSocketJson, &people.all[0].token).await.expect("signed in");
        let reader = people.endpoints.get(frozen, Transport::WebSocketJson);
        let (reader, mut events, _) =
            sign_in(&reader, Transport::WebSocketJson, &people.all[1].token).await.expect("signed in");
        drop(sender_events);
        let hears = async |events: &mut rookery::client::Events, text: &str| {
            within(COMPLETE_AGAIN, text, async {
                loop {
                    let incoming = events.next_incoming().await.expect("the connection stays");
                    if let Incoming::Event(Body::Message(message)) = incoming
                        && message.text == text
                    {
                        return message.seq;
                    }
                }
            })
            .await
        };
        sender.send(send_to(room, "before", "before")).await.expect("the room takes it");
        let before = hears(&mut events, "before").await;
        cluster.stop(frozen).expect("the node can be frozen");
        let name = cluster.node(frozen).name().to_owned();
        let admin = cluster.admin(0);
        eventually(VIEW_TIMEOUT, "the frozen node is down", || async {
            let states = admin.states().await.ok()?;
            (states.get(&name).map(String::as_str) == Some("down")).then_some(())
        })
        .await;
        let sent = sender.send(send_to(room, "meanwhile", "meanwhile")).await.expect("the room takes it");
        cluster.cont(frozen).expect("the node can go on");
        assert_eq!(hears(&mut events, "meanwhile").await, sent.seq);
        assert_eq!(sent.seq, before + 1);
        reader.close().await;
        sender.close().await;
        cluster.end().await;
    })
    .await;
}
