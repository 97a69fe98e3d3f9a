//! A lane between two nodes: requests become items, items an envelope, and the envelope's bytes requests again.

#[path = "hot/envelopes.rs"]
mod envelopes;
#[path = "hot/frames.rs"]
#[allow(dead_code, reason = "each subject uses a part of it")]
mod frames;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::time::Instant;

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    let now = Instant::now();
    for items in [1, 4, 16, 64] {
        let mut lane = envelopes::lane();
        let requests = envelopes::requests(items);
        group.throughput(Throughput::Elements(items as u64));
        group.bench_function(BenchmarkId::new("pack", items), |bencher| {
            bencher.iter(|| envelopes::pack(&mut lane, black_box(&requests), now));
        });
        let bytes = Bytes::from(envelopes::pack(&mut lane, &requests, now));
        group.bench_function(BenchmarkId::new("unpack", items), |bencher| {
            bencher.iter(|| envelopes::unpack(black_box(bytes.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, envelope);
criterion_main!(benches);
