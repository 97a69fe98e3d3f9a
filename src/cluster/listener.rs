//! The port that other nodes dial. A connection that says nothing costs one task until its deadline, and blocks nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::handshake::SharedHandshaker;
use super::network::Listener;
use super::seldom::Seldom;

/// Most handshakes at once; a connection beyond is closed at once.
const HANDSHAKES_MAX: usize = 256;
/// Pause after the system has refused to accept, which it does when it is out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is dropped.
pub async fn keep_accepting(mut listener: Box<dyn Listener>, handshaker: SharedHandshaker) {
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let seldom = Seldom::default();
    loop {
        match listener.accept().await {
            Ok((connection, from)) => {
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    if seldom.allows("full") {
                        tracing::warn!(
                            target: "rookery::cluster", %from,
                            "{HANDSHAKES_MAX} connections on cluster.listen have not said who they are; more are \
                             closed. Find out what connects there"
                        );
                    }
                    continue;
                };
                let handshaker = handshaker.clone();
                tokio::spawn(async move {
                    handshaker.accept(connection, from).await;
                    drop(permit);
                });
            }
            Err(error) => {
                if seldom.allows("accept") {
                    tracing::error!(
                        target: "rookery::cluster", %error,
                        "no link can be accepted on cluster.listen; check the limit of open files"
                    );
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
