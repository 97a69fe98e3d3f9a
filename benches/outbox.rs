//! A session's outbox: messages and answers go in, and come out in order for one write.

#[path = "hot/frames.rs"]
#[allow(dead_code, reason = "each subject uses a part of it")]
mod frames;
#[path = "hot/outboxes.rs"]
mod outboxes;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn outbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O needs nothing");
    let _entered = runtime.enter();
    let bytes = Bytes::from(frames::text(300));
    for count in [1, 16, 64] {
        let (outbox, mut seq) = (outboxes::outbox(), 1);
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("push_and_drain", count), |bencher| {
            bencher.iter(|| {
                seq += count;
                outboxes::push_and_drain(&outbox, seq - count, count, &bytes)
            });
        });
    }
    let (outbox, mut seq) = (outboxes::outbox(), 0);
    group.throughput(Throughput::Elements(1));
    group.bench_function("answer_and_drain", |bencher| {
        bencher.iter(|| {
            seq += 1;
            outboxes::answer_and_drain(&outbox, seq, &bytes)
        });
    });
    group.finish();
}

criterion_group!(benches, outbox);
criterion_main!(benches);
