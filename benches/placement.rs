//! Rendezvous hashing: which of so many nodes owns an address.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rookery::cluster::Address;
use rookery::cluster::placement::{self, Candidate};

fn owner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement/owner");
    for nodes in [1, 3, 5, 50] {
        let candidate =
            |index: usize| Candidate { hash: placement::node_hash(&format!("node-{index}")), index };
        let candidates: Vec<Candidate> = (0..nodes).map(candidate).collect();
        let mut key = 0;
        group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
            bencher.iter(|| {
                key += 1;
                placement::owner(black_box(&candidates), &Address::room(key))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, owner);
criterion_main!(benches);
