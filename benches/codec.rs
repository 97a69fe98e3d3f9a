//! Encoding and decoding of a send, its answer and a pushed message, in each format, for texts of 20 to 2,000 bytes.

#[path = "hot/frames.rs"]
#[allow(dead_code, reason = "each subject uses a part of it")]
mod frames;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rookery::protocol::codec::{self, Format};
use rookery::protocol::{ConversationKind, line};

const SIZES: [usize; 3] = [20, 200, 2000];
const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("proto", Format::Proto)];

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for size in SIZES {
        let text = frames::text(size);
        let send = frames::send_frame(1, &text);
        let message = frames::message_frame(frames::message(1, 5, &text));
        group.throughput(Throughput::Bytes(size as u64));
        for (name, format) in FORMATS {
            let id = |what: &str| BenchmarkId::new(format!("{name}/{what}"), size);
            let (send_bytes, message_bytes) = (codec::encode(&send, format), codec::encode(&message, format));
            group.bench_function(id("send/encode"), |bencher| {
                bencher.iter(|| codec::encode(black_box(&send), format));
            });
            group.bench_function(id("send/decode"), |bencher| {
                bencher.iter(|| codec::decode_client(black_box(&send_bytes), format));
            });
            group.bench_function(id("message/encode"), |bencher| {
                bencher.iter(|| codec::encode(black_box(&message), format));
            });
            group.bench_function(id("message/decode"), |bencher| {
                bencher.iter(|| codec::decode_server(black_box(&message_bytes), format));
            });
        }
    }
    group.finish();
}

/// An answer has no text.
fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let sent = frames::sent_frame(1, 5);
    for (name, format) in FORMATS {
        let bytes = codec::encode(&sent, format);
        group.bench_function(format!("{name}/sent/encode"), |bencher| {
            bencher.iter(|| codec::encode(black_box(&sent), format));
        });
        group.bench_function(format!("{name}/sent/decode"), |bencher| {
            bencher.iter(|| codec::decode_server(black_box(&bytes), format));
        });
    }
    group.finish();
}

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for size in SIZES {
        let text = frames::text(size);
        let (command, message) = (format!("SEND 7 {text}"), frames::message(1, 5, &text));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("line/send/decode", size), |bencher| {
            bencher.iter(|| line::parse(black_box(&command)));
        });
        group.bench_function(BenchmarkId::new("line/message/encode", size), |bencher| {
            bencher.iter(|| line::message_line(black_box(&message), ConversationKind::Direct));
        });
    }
    group.finish();
}

criterion_group!(benches, frames, answers, lines);
criterion_main!(benches);
