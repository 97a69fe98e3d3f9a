//! Generates the wire types from `proto/`, with serde attributes that make the JSON form of the client frames, and schemas of
//! those that REST shows, for the API's description.

use std::collections::BTreeSet;

use prost_build::Config;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

/// Frames are maps with one of many keys; `protocol::json` writes and reads those by hand.
const FRAMES: [&str; 2] = ["ClientFrame", "ServerFrame"];

/// What REST calls answer, whole or its words. These have a schema, and so has what they are made of.
const ANSWERED: [&str; 7] =
    ["ContactEvent", "Conversation", "Error", "Message", "Presence", "Scheduled", "Sent"];
/// What REST calls take as their body, likewise.
const ASKED: [&str; 1] = ["Send"];
/// What the schema of a field says beside its type: message, field, attributes.
const SAID: [(&str, &str, &str); 1] =
    [("Send", "client_id", "required = true, min_length = 1, max_length = 64")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/client.proto", "proto/cluster.proto"], ["proto"])?;
    let mut config = Config::new();
    let client = files
        .file
        .iter()
        .find(|file| file.package() == "rookery.v1")
        .ok_or("proto/client.proto has lost its package")?;
    let (answered, asked) = (closure(&client.message_type, &ANSWERED), closure(&client.message_type, &ASKED));
    let mut words = BTreeSet::new();
    for message in &client.message_type {
        let path = format!(".rookery.v1.{}", message.name());
        if FRAMES.contains(&message.name()) {
            continue;
        }
        config.message_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]");
        let (is_answered, is_asked) = (answered.contains(message.name()), asked.contains(message.name()));
        if is_answered || is_asked {
            describe(&mut config, &path, message, !is_asked);
            words.extend(
                message.field.iter().filter(|field| field.r#type() == Type::Enum).map(|f| f.type_name()),
            );
        }
        for field in &message.field {
            let attribute = match field.r#type() {
                Type::Enum => format!(
                    "#[serde(with = \"crate::protocol::json::words::{}\")]",
                    words_module(field.type_name())
                ),
                Type::Message if field.label() == Label::Optional => {
                    "#[serde(skip_serializing_if = \"Option::is_none\")]".to_owned()
                }
                _ => "#[serde(deserialize_with = \"crate::protocol::json::lenient\")]".to_owned(),
            };
            config.field_attribute(format!("{path}.{}", field.name()), attribute);
        }
    }
    for word in words {
        let name = outer_name(word);
        config.enum_attribute(
            word,
            format!("#[derive(utoipa::ToSchema)] #[schema(as = {name}, rename_all = \"snake_case\")]"),
        );
    }
    // A frame is made to be encoded at once; a box for its largest body would be an allocation for each.
    config.enum_attribute(".rookery.v1.ServerFrame.body", "#[allow(clippy::large_enum_variant)]");
    // What few messages have takes room in none of the others.
    config.boxed(".rookery.v1.Message.marks");
    // Requests between nodes are forwarded and repeated, and events passed on, without being copied.
    config.bytes([
        ".rookery.cluster.v1.Tell.request",
        ".rookery.cluster.v1.Ask.request",
        ".rookery.cluster.v1.Deliver.event",
    ]);
    config.compile_fds(files)?;
    Ok(())
}

/// Names of the messages that `roots` are made of, themselves included.
fn closure(messages: &[DescriptorProto], roots: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
    while let Some(name) = waiting.pop() {
        let fields =
            messages.iter().find(|message| message.name() == name).into_iter().flat_map(|m| &m.field);
        if found.insert(name.clone()) {
            waiting.extend(fields.filter(|field| field.r#type() == Type::Message).map(last_name));
        }
    }
    found
}

/// `Draft` of `.rookery.v1.Draft`.
fn last_name(field: &FieldDescriptorProto) -> String {
    field.type_name().rsplit('.').next().unwrap_or_default().to_owned()
}

/// Gives the message a schema. What the server writes names every field but for absent messages; what clients write may
/// leave out any.
fn describe(config: &mut Config, path: &str, message: &DescriptorProto, names_all: bool) {
    config.message_attribute(path, "#[derive(utoipa::ToSchema)]");
    for field in &message.field {
        let mut parts = Vec::new();
        let may_be_absent = field.r#type() == Type::Message && field.label() == Label::Optional;
        if field.r#type() == Type::Enum {
            parts.push(format!("value_type = crate::protocol::{}", outer_name(field.type_name())));
        }
        if may_be_absent {
            parts.push("nullable = false".to_owned());
        } else if names_all {
            parts.push("required = true".to_owned());
        }
        let said = SAID.iter().filter(|said| (said.0, said.1) == (message.name(), field.name()));
        parts.extend(said.map(|said| said.2.to_owned()));
        if !parts.is_empty() {
            config.field_attribute(
                format!("{path}.{}", field.name()),
                format!("#[schema({})]", parts.join(", ")),
            );
        }
    }
}

/// `.rookery.v1.MessageKind.Kind` is (de)serialised by the module `message_kind`.
fn words_module(type_name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in outer_name(type_name).char_indices() {
        if letter.is_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// `MessageKind` of `.rookery.v1.MessageKind.Kind`.
fn outer_name(type_name: &str) -> &str {
    type_name.rsplit('.').nth(1).unwrap_or_default()
}
