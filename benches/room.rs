//! A room's decisions: sends become a group, and a stored group becomes answers and pushes. Figures are for a group.

#[path = "hot/frames.rs"]
#[allow(dead_code, reason = "each subject uses a part of it")]
mod frames;
#[path = "hot/rooms.rs"]
mod rooms;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn plan_and_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("room/plan_and_commit");
    for (members, sends) in [(2, 1), (2, 16), (2, 64), (1000, 1), (1000, 16)] {
        let mut room = rooms::room(members);
        group.throughput(Throughput::Elements(sends as u64));
        group.bench_function(BenchmarkId::new(format!("{members}_members"), sends), |bencher| {
            bencher.iter_batched(
                || rooms::sends(sends),
                |sends| rooms::plan_and_commit(&mut room, sends),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, plan_and_commit);
criterion_main!(benches);
