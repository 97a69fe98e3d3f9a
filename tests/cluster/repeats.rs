//! One client_id, sent through two nodes at once and again after the room's owner was killed: one message.

use std::time::Duration;

use futures_util::future::join_all;
use rookery::client::{ClientError, Connection, Transport};
use rookery::protocol::v1;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::checker::Target;
use crate::device::{send_to, sign_in};
use crate::people::People;
use crate::world::{Cluster, seed, within};

/// Messages, each sent through two nodes.
const MESSAGES: usize = 40;
/// Those under way when the owner is killed.
const IN_FLIGHT: usize = 20;
/// How long a send may take to be acknowledged after the kill, repeats included.
const ACK_TIMEOUT: Duration = Duration::from_secs(15);
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_id_makes_one_message_through_two_nodes_and_across_a_kill() {
    within(TEST_TIMEOUT, "concurrent repeats", repeat_everything()).await;
}

async fn repeat_everything() {
    let mut cluster = Cluster::on_sqlite(3).await;
    let rest = cluster.rest();
    let mut people = People::new(&cluster, seed(), 3).await;
    let group = people.group(&rest, &[0, 1, 2]).await;
    let owner = cluster.owner_of_room(0, group).await;
    let others: Vec<usize> = (0..3).filter(|at| *at != owner).collect();
    let sender = people.all[0].clone();
    let second = sender.another_token(&rest).await;
    let [a, b] =
        [(others[0], &sender.token, Transport::WebSocketProto), (others[1], &second, Transport::Tcp)].map(
            |(node, token, transport)| {
                let endpoint = people.endpoints.get(node, transport);
                async move { sign_in(&endpoint, transport, token).await.expect("the node signs us in") }
            },
        );
    // The events must be taken or dropped, else the connection waits.
    let ((a, _, _), (b, _, _)) = tokio::join!(a, b);
    let target = Target::Conversation(group);
    let send = |connection: &Connection, client_id: &str| -> JoinHandle<Result<v1::Sent, ClientError>> {
        let text = format!("text of {client_id}");
        people.checker.attempt(sender.user_id, target, client_id, &text);
        let (connection, send) = (connection.clone(), send_to(target, client_id, &text));
        tokio::spawn(async move { connection.send(send).await })
    };

    // Through both at once.
    let mut pairs = Vec::new();
    for number in 0..MESSAGES {
        let id = format!("twice-{number}");
        pairs.push((id.clone(), send(&a, &id), send(&b, &id)));
    }
    let mut seqs = Vec::new();
    for (id, first, second) in pairs {
        let first = first.await.expect("the task ends").expect("the send is acknowledged");
        let second = second.await.expect("the task ends").expect("the send is acknowledged");
        assert_eq!(first.seq, second.seq, "{id}");
        assert!(first.duplicate != second.duplicate, "{id}: one of two is new: {first:?}, {second:?}");
        for sent in [&first, &second] {
            people.checker.acked(None, sender.user_id, target, sent);
        }
        seqs.push((id, first.seq));
    }

    // Some are under way while the owner dies; whatever came of them, repeats until acknowledged make one each.
    let dying: Vec<String> = (0..IN_FLIGHT).map(|number| format!("dying-{number}")).collect();
    let under_way: Vec<_> = dying.iter().flat_map(|id| [send(&a, id), send(&b, id)]).collect();
    cluster.kill9(owner).await.expect("the node can be killed");
    for answer in join_all(under_way).await {
        if let Ok(sent) = answer.expect("the task ends") {
            people.checker.acked(None, sender.user_id, target, &sent);
        }
    }
    for id in &dying {
        let (first, second) = tokio::join!(until_acked(&a, &send, id), until_acked(&b, &send, id));
        assert_eq!(first.seq, second.seq, "{id}");
        for sent in [&first, &second] {
            people.checker.acked(None, sender.user_id, target, sent);
        }
        seqs.push((id.clone(), first.seq));
    }

    // And all of them once more, at once, through both.
    let repeats: Vec<_> = seqs.iter().map(|(id, seq)| (id, seq, send(&a, id), send(&b, id))).collect();
    for (id, seq, first, second) in repeats {
        for answer in [first, second] {
            let sent = answer.await.expect("the task ends").expect("the repeat is acknowledged");
            assert_eq!((sent.seq, sent.duplicate), (*seq, true), "{id}");
            people.checker.acked(None, sender.user_id, target, &sent);
        }
    }
    a.close().await;
    b.close().await;
    let summary = people.judge(&others).await;
    assert_eq!(summary.acked, MESSAGES + IN_FLIGHT);
    assert_eq!(
        summary.synced,
        3 * (MESSAGES + IN_FLIGHT + 1),
        "the messages, and the one of the group's creation"
    );
    cluster.end().await;
}

/// Repeats a send until it is acknowledged.
async fn until_acked(
    connection: &Connection,
    send: &impl Fn(&Connection, &str) -> JoinHandle<Result<v1::Sent, ClientError>>,
    client_id: &str,
) -> v1::Sent {
    let deadline = Instant::now() + ACK_TIMEOUT;
    loop {
        match send(connection, client_id).await.expect("the task ends") {
            Ok(sent) => return sent,
            Err(error) if error.may_repeat() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(error.retry_after_ms().max(20))).await;
            }
            Err(error) => panic!("{client_id} is not acknowledged: {error}"),
        }
    }
}
