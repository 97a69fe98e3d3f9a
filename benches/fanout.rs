//! Fan-out: from the members of a room to the nodes and shards that hold their sessions, and to their outboxes.

#[path = "hot/directories.rs"]
mod directories;
#[path = "hot/frames.rs"]
#[allow(dead_code, reason = "each subject uses a part of it")]
mod frames;
#[path = "hot/scene.rs"]
#[allow(dead_code, reason = "each subject uses a part of it")]
mod scene;
#[path = "hot/wire.rs"]
mod wire;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rookery::protocol::codec::Format;

const MEMBERS: [u64; 3] = [2, 100, 1000];

/// The plan alone, in clusters of one and three nodes.
fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout/plan");
    for nodes in [1, 3] {
        for members in MEMBERS {
            let directory = directories::directory(nodes, members);
            let ids: Vec<u64> = (1..=members).collect();
            group.throughput(Throughput::Elements(members));
            group.bench_function(BenchmarkId::new(format!("{nodes}_nodes"), members), |bencher| {
                bencher.iter(|| directory.routes(black_box(&ids), 0, directories::HERE, true));
            });
        }
    }
    group.finish();
}

/// Where one user's sessions are.
fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout/lookup");
    for members in MEMBERS {
        let directory = directories::directory(1, members);
        let mut user_id = 0;
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| {
                user_id = user_id % members + 1;
                directory.sessions_of(black_box(user_id))
            });
        });
    }
    group.finish();
}

/// A message to a room on a node of one, from the sender's frame to all outboxes drained: one thread, memory as storage.
fn whole_way(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout/whole_way");
    group.sample_size(20);
    let text = frames::text(frames::TEXT_BYTES);
    for members in MEMBERS {
        let mut scene = scene::Scene::start(1);
        let seats = scene.sign_in(members as usize, Format::Json);
        let room = scene.group(&seats);
        group.throughput(Throughput::Elements(members));
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter_batched(
                || [seats[0].send(room, &text)],
                |sends| scene.play_each(&sends, members as usize),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, plan, lookup, whole_way);
criterion_main!(benches);
