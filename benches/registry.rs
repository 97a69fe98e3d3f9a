//! The registry of a node's actors: finding one among so many, and casting to it.

#[path = "hot/registries.rs"]
mod registries;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rookery::cluster::Address;

fn registry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registry");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O needs nothing");
    for actors in [100, 10_000] {
        let registry = runtime.block_on(registries::registry(actors));
        let mut key = 0;
        let mut next = move || {
            key = (key + 1) % actors;
            key
        };
        group.bench_function(BenchmarkId::new("lookup", actors), |bencher| {
            bencher.iter(|| registry.depth(Address::room(next())));
        });
        group.bench_function(BenchmarkId::new("cast_and_handle", actors), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let key = next();
                    registries::cast(&registry, key);
                    while registry.depth(Address::room(key)) > 0 {
                        tokio::task::yield_now().await;
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, registry);
criterion_main!(benches);
