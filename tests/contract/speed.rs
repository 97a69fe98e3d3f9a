//! Figures, on request: `cargo test --release --test contract speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use rookery::protocol::v1::Message;
use rookery::storage::Stores;

use crate::fixture::{message, mysql_config, opened, sqlite_config};
use crate::mariadb_server::MariaDb;

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(2);

async fn rows_per_second(stores: &Stores, conversation_id: u64, size: u64) -> f64 {
    let (started, mut next) = (Instant::now(), 1);
    while started.elapsed() < SPAN {
        let batch: Vec<Message> = (next..next + size)
            .map(|seq| Message {
                text: "t".repeat(200),
                ..message(conversation_id, seq, seq % 50, &format!("client-{conversation_id}-{seq}"))
            })
            .collect();
        stores.messages.append(&batch).await.expect("it is stored");
        next += size;
    }
    (next - 1) as f64 / started.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and checks nothing"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn appends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = opened(&sqlite_config(folder.path())).await.stores();
    let mariadb = opened(&mysql_config(MariaDb::shared().await).await).await.stores();
    for (name, stores) in [("SQLite", sqlite), ("MariaDB", mariadb)] {
        for size in [1, 20, 100, 512] {
            let rate = rows_per_second(&stores, size, size).await;
            println!("{name}, batches of {size}: {rate:.0} rows/s");
        }
    }
}
