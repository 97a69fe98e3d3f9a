//! Connections that do nothing, to see what they cost in memory.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::people;
use super::super::receiver::Player;
use super::super::report::Report;
use super::{Costs, Run, announce, count_close, frame};
use crate::client::Close;

pub(super) async fn idle(run: &Run, connections: usize) -> anyhow::Result<Report> {
    announce(&format!("signing up {connections} users …"));
    let people = people::sign_up(&run.args, connections).await?;
    announce("connecting …");
    let costs = Costs::begin(&run.args, None);
    let online = people::connect(run, &people, 0, |at| at).await?;
    let (_over, is_over) = watch::channel(false);
    let mut closed: Vec<Arc<Mutex<Option<Close>>>> = Vec::new();
    for one in online {
        let ended = Arc::default();
        closed.push(Arc::clone(&ended));
        let recorder = Arc::clone(&run.recorder);
        let player = Player {
            inlet: one.inlet,
            run: run.number,
            recorder,
            writer: None,
            receiver: None,
            closed: ended,
        };
        run.pool.on(one.at).spawn(player.run(is_over.clone()));
    }
    announce("holding the connections …");
    sleep(Duration::from_secs(run.args.seconds)).await;
    let mut report = frame(&run.args, "idle", connections);
    report.seconds = costs.elapsed().as_secs_f64();
    let held = connections as f64 / run.args.server_pids.len().max(1) as f64;
    costs.end(&mut report, Some(held)).await;
    for ended in closed {
        if let Some(close) = &*ended.lock() {
            count_close(&mut report, close);
        }
    }
    Ok(report)
}
