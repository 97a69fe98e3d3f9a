//! Properties of everything that reads what clients send: no bytes make it panic, and what is written is read back.

mod frames;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use rookery::protocol::codec::{Format, PREFIX_BYTES, decode_client, decode_server, encode};
use rookery::protocol::line::{self, Command};
use rookery::protocol::salvage::salvage_id;

/// Cases of the tests that throw anything at a decoder.
const NOISE_CASES: u32 = 100_000;
/// Cases of the round trips, each of which makes a whole frame.
const ROUND_TRIP_CASES: u32 = 5_000;

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, test).expect("the property holds");
}

/// Bytes of all sorts: noise, frames with some bytes changed, and pieces of the format's own grammar.
fn noise(format: Format) -> impl Strategy<Value = Vec<u8>> {
    let anything = prop::collection::vec(any::<u8>(), 0..200);
    let damaged =
        (frames::client(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4))
            .prop_map(move |(frame, damage)| {
                let mut bytes = encode(&frame, format).to_vec();
                for (at, byte) in damage {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                    }
                }
                bytes
            });
    let grammar = prop::collection::vec(
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "null",
            "true",
            "-1",
            "1e99",
            "18446744073709551616",
            "\"id\"",
            "\"send\"",
            "\"hello\"",
            "\"kind\"",
            "\"text\"",
            "\"1\"",
            "\"\\ud800\"",
            "\"cursors\"",
            "\"sync\"",
            "0.5",
            "\"\"",
        ]),
        0..24,
    )
    .prop_map(|words| words.concat().into_bytes());
    prop_oneof![2 => anything, 2 => damaged, 1 => grammar]
}

fn survives(format: Format) {
    run(NOISE_CASES, &noise(format), |bytes| {
        if decode_client(&bytes, format).is_err() {
            let _ = salvage_id(&bytes, format);
        }
        Ok(())
    });
}

#[test]
fn no_bytes_make_the_json_decoder_panic() {
    survives(Format::Json);
}

#[test]
fn no_bytes_make_the_protobuf_decoder_panic() {
    survives(Format::Proto);
}

#[test]
fn no_line_makes_the_parser_panic_and_every_refusal_is_one_line() {
    let word = prop_oneof![
        prop::sample::select(vec![
            "REGISTER",
            "login",
            "Send",
            "PULL",
            "addfriend",
            "GETFRIENDS",
            "CREATEGROUP",
            "joingroup",
            "SENDGROUP",
            "LOGOUT",
            "QUIT",
            "HELP",
            "7",
            "0",
            "-1",
            "99999999999999999999",
            "\\n",
            "\\",
            "\u{0}",
            "é",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
        any::<String>(),
    ];
    let lines = (prop::collection::vec(word, 0..5), prop::sample::select(vec![" ", "  ", "\t", ""]))
        .prop_map(|(words, blank)| words.join(blank));
    run(NOISE_CASES, &lines, |text| {
        match line::parse(&text) {
            Ok(command) => {
                let written = line::command_line(&command);
                prop_assert!(!written.contains('\n') || text.contains('\n'), "{written:?}");
            }
            Err(reason) => {
                let answer = line::error_line(&reason);
                prop_assert!(answer.starts_with("-ERR ") && answer.len() > 5 && answer != "-ERR failed");
                prop_assert!(!answer.contains(['\n', '\r']));
            }
        }
        Ok(())
    });
}

#[test]
fn a_text_comes_through_a_line_as_it_was() {
    run(ROUND_TRIP_CASES, &(1u64..1 << 53, any::<String>()), |(id, text)| {
        let escaped = line::escape(&text).into_owned();
        prop_assert!(!escaped.contains(['\n', '\r']));
        prop_assert_eq!(line::unescape(&escaped), text.as_str());
        if !text.is_empty() {
            let command = Command::Send { user_id: id, text };
            prop_assert_eq!(line::parse(&line::command_line(&command)), Ok(command));
        }
        Ok(())
    });
}

#[test]
fn a_client_frame_is_the_same_by_json_and_by_protobuf() {
    run(ROUND_TRIP_CASES, &frames::client(), |frame| {
        for format in [Format::Json, Format::Proto] {
            let bytes = encode(&frame, format);
            prop_assert_eq!(&decode_client(&bytes, format).expect("our own bytes"), &frame);
        }
        // Through both, one after the other.
        let json = encode(
            &decode_client(&encode(&frame, Format::Proto), Format::Proto).expect("ours"),
            Format::Json,
        );
        prop_assert_eq!(&decode_client(&json, Format::Json).expect("ours"), &frame);
        Ok(())
    });
}

#[test]
fn a_server_frame_is_the_same_by_json_and_by_protobuf() {
    run(ROUND_TRIP_CASES, &frames::server(), |frame| {
        for format in [Format::Json, Format::Proto] {
            let bytes = encode(&frame, format);
            prop_assert_eq!(&decode_server(&bytes, format).expect("our own bytes"), &frame);
        }
        let json = encode(&frame, Format::Json);
        let value: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
        prop_assert!(!has_null(&value), "the server never sends null: {}", value);
        Ok(())
    });
}

#[test]
fn a_prefixed_frame_is_its_length_and_the_plain_one() {
    run(ROUND_TRIP_CASES, &frames::server(), |frame| {
        let prefixed = encode(&frame, Format::ProtoPrefixed);
        let plain: Bytes = encode(&frame, Format::Proto);
        let (prefix, rest) = prefixed.split_at(PREFIX_BYTES);
        prop_assert_eq!(prefix, (plain.len() as u32).to_be_bytes());
        prop_assert_eq!(rest, &plain[..]);
        Ok(())
    });
}

fn has_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(items) => items.iter().any(has_null),
        serde_json::Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}
