//! Generates the wire types from `proto/`, with serde attributes that make the JSON form of the client frames.

use prost_build::Config;

/// Frames are maps with one of many keys; `protocol::json` writes and reads those by hand.
const FRAMES: [&str; 2] = ["ClientFrame", "ServerFrame"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/client.proto", "proto/cluster.proto"], ["proto"])?;
    let mut config = Config::new();
    let client = files
        .file
        .iter()
        .find(|file| file.package() == "rookery.v1")
        .ok_or("proto/client.proto has lost its package")?;
    for message in &client.message_type {
        let path = format!(".rookery.v1.{}", message.name());
        if FRAMES.contains(&message.name()) {
            continue;
        }
        config.message_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]");
        for field in &message.field {
            let attribute = match field.r#type() {
                prost_types::field_descriptor_proto::Type::Enum => format!(
                    "#[serde(with = \"crate::protocol::json::words::{}\")]",
                    words_module(field.type_name())
                ),
                prost_types::field_descriptor_proto::Type::Message
                    if field.label() == prost_types::field_descriptor_proto::Label::Optional =>
                {
                    "#[serde(skip_serializing_if = \"Option::is_none\")]".to_owned()
                }
                _ => "#[serde(deserialize_with = \"crate::protocol::json::lenient\")]".to_owned(),
            };
            config.field_attribute(format!("{path}.{}", field.name()), attribute);
        }
    }
    // A frame is made to be encoded at once; a box for its largest body would be an allocation for each.
    config.enum_attribute(".rookery.v1.ServerFrame.body", "#[allow(clippy::large_enum_variant)]");
    // Requests between nodes are forwarded and repeated without being copied.
    config.bytes([".rookery.cluster.v1.Tell.request", ".rookery.cluster.v1.Ask.request"]);
    config.compile_fds(files)?;
    Ok(())
}

/// `.rookery.v1.MessageKind.Kind` is (de)serialised by the module `message_kind`.
fn words_module(type_name: &str) -> String {
    let outer = type_name.rsplit('.').nth(1).unwrap_or_default();
    let mut snake = String::new();
    for (at, letter) in outer.char_indices() {
        if letter.is_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
