//! A node of one thread for its actors and one of several: WebSockets live on the actors' thread there, on HTTP's workers
//! here, and no client can tell.

use reqwest::Method;
use rookery::client::Transport;

use crate::live::a_text_to;
use crate::world::{World, eventually, items};

/// Values of `node.actor_threads`: one of each shape.
pub const SHAPES: [&str; 2] = ["1", "2"];
/// Texts each way, more than go into one write.
const TEXTS: u64 = 300;

#[tokio::test]
async fn websockets_serve_alike_wherever_they_live() {
    for threads in SHAPES {
        let world = World::with(&[("node.actor_threads", threads)]);
        let (ada, bob) = world.two("ada", "bob").await;
        let mut lives =
            [ada.opens(Transport::WebSocketJson).await, bob.opens(Transport::WebSocketProto).await];
        for turn in 0..TEXTS {
            lives[0].sends(a_text_to(&bob, &format!("ping {turn}"))).await;
            lives[1].sends(a_text_to(&ada, &format!("pong {turn}"))).await;
        }
        for live in &mut lives {
            let mut last = 0;
            for _ in 0..TEXTS {
                let seq = live.hears_a_text().await.seq;
                assert!(seq > last, "{seq} after {last}, {threads} threads");
                last = seq;
            }
        }
        // Cut from outside: by another device, and by the client's own end.
        let [first, second] = lives;
        let path = format!("/sessions/{}", ada.device_id);
        world.signs_in(&ada.name).await.deletes(&path).await.is(204);
        assert_eq!(first.sees_the_close().await.code, Some(4401), "{threads} threads");
        drop(second);
        eventually("no session any more", async || {
            let path = "/admin/v1/actors?kind=session";
            let answer =
                crate::world::Answer::of(path, world.operator_request(Method::GET, path)).await.is(200);
            items(&answer).is_empty().then_some(())
        })
        .await;
    }
}
