//! The JSON form of the frames: proto3's mapping with original field names, enum values as lower-case words and
//! 64-bit integers as numbers. Input is taken leniently (numbers as decimal strings, `null` as the default, unknown
//! fields ignored); output is strict and names every scalar field, so that clients need no defaults of their own.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;

use super::v1;
use super::v1::{client_frame::Request, server_frame::Body};

/// A field's value as clients may write it: see the module's header.
pub trait Lenient: Sized {
    /// Reads the value.
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// What `#[serde(deserialize_with)]` of the generated fields names.
pub fn lenient<'de, D: Deserializer<'de>, T: Lenient>(deserializer: D) -> Result<T, D::Error> {
    T::lenient(deserializer)
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = u64;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 0 or more, or one in a decimal string")
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<u64, E> {
        // Only what a double holds exactly; the ids of the protocol are below 2^53.
        if value >= 0.0 && value.fract() == 0.0 && value < 9_007_199_254_740_992.0 {
            Ok(value as u64)
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<u64, E> {
        value.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
    }
    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        Ok(0)
    }
}

impl Lenient for u64 {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

impl Lenient for u32 {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wide = deserializer.deserialize_any(NumberVisitor)?;
        wide.try_into().map_err(|_| de::Error::custom(format!("{wide} does not fit 32 bits")))
    }
}

impl Lenient for bool {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

impl Lenient for String {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

/// An element of a list, read leniently.
struct Element<T>(T);

impl<'de, T: Lenient> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::lenient(deserializer).map(Element)
    }
}

impl<T: Lenient> Lenient for Vec<T> {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Lenient> Visitor<'de> for ListVisitor<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(Element(item)) = list.next_element::<Element<T>>()? {
                    items.push(item);
                }
                Ok(items)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

macro_rules! lenient_messages {
    ($($message:ident),* $(,)?) => {
        $(impl Lenient for v1::$message {
            fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Option::<Self>::deserialize(deserializer)?.unwrap_or_default())
            }
        })*
    };
}
lenient_messages!(Attachment, Conversation, Cursor, Hidden, Message, Presence, Reaction);

/// One module an enum, for `#[serde(with)]` of the generated `i32` fields.
pub mod words {
    macro_rules! word_modules {
        ($($module:ident: $word:ty),* $(,)?) => {
            $(#[doc = "The enum's values as words."]
            pub mod $module {
                use serde::{Deserialize, Deserializer, Serializer, de};

                /// Writes the value's name; an unknown number of a newer peer is written as the default.
                pub fn serialize<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
                    let word = <$word>::try_from(*value).unwrap_or_default();
                    serializer.serialize_str(word.as_str_name())
                }

                /// Reads a name, or the number that proto3's mapping also allows.
                pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
                    #[derive(Deserialize)]
                    #[serde(untagged)]
                    enum Word { Name(String), Number(i32) }
                    let words = || {
                        let all = (0..32).filter_map(|number| <$word>::try_from(number).ok());
                        all.map(|word| word.as_str_name()).collect::<Vec<_>>().join(", ")
                    };
                    let read = Option::<Word>::deserialize(deserializer);
                    match read.map_err(|_| de::Error::custom(format!("take one of {}", words())))? {
                        None => Ok(0),
                        Some(Word::Number(number)) => Ok(number),
                        Some(Word::Name(name)) => <$word>::from_str_name(&name)
                            .map(|word| word as i32)
                            .ok_or_else(|| de::Error::custom(format!(
                                "there is no \"{name}\" here; take one of {}", words()))),
                    }
                }
            })*
        };
    }
    word_modules! {
        message_kind: crate::protocol::MessageKind,
        conversation_kind: crate::protocol::ConversationKind,
        join_policy: crate::protocol::JoinPolicy,
        member_role: crate::protocol::MemberRole,
        presence_status: crate::protocol::PresenceStatus,
        contact_state: crate::protocol::ContactState,
        notification_level: crate::protocol::NotificationLevel,
        error_code: crate::protocol::ErrorCode,
    }
}

/// A frame that is one number (`id` or `reply_to`) beside one of several named bodies.
macro_rules! frame {
    ($frame:ty, $number:ident, $field:ident: $oneof:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl Serialize for $frame {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                if self.$number != 0 {
                    map.serialize_entry(stringify!($number), &self.$number)?;
                }
                match &self.$field {
                    $(Some($oneof::$variant(body)) => map.serialize_entry($name, body)?,)*
                    None => {}
                }
                map.end()
            }
        }

        impl<'de> Deserialize<'de> for $frame {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FrameVisitor;
                impl<'de> Visitor<'de> for FrameVisitor {
                    type Value = $frame;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a frame: a JSON object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$frame, A::Error> {
                        let mut frame = <$frame>::default();
                        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                            match key.as_ref() {
                                stringify!($number) => {
                                    let Element(number) = map.next_value()?;
                                    frame.$number = number;
                                }
                                $($name => {
                                    if let Some(body) = map.next_value::<Option<_>>()? {
                                        if frame.$field.is_some() {
                                            return Err(de::Error::custom(
                                                "the frame has two bodies; send one a frame"));
                                        }
                                        frame.$field = Some($oneof::$variant(body));
                                    }
                                })*
                                _ => { map.next_value::<IgnoredAny>()?; }
                            }
                        }
                        Ok(frame)
                    }
                }
                deserializer.deserialize_map(FrameVisitor)
            }
        }
    };
}

frame!(v1::ClientFrame, id, request: Request {
    Hello = "hello", Login = "login", Send = "send", Edit = "edit", Recall = "recall", React = "react",
    Delivered = "delivered", Read = "read", Typing = "typing", Sync = "sync", History = "history",
    WatchPresence = "watch_presence", SetPresence = "set_presence", Ping = "ping",
});

frame!(v1::ServerFrame, reply_to, body: Body {
    Welcome = "welcome", Sent = "sent", SyncPage = "sync_page", HistoryPage = "history_page",
    PresencePage = "presence_page", Ok = "ok", Pong = "pong", Error = "error", Message = "message",
    Receipt = "receipt", Typing = "typing", Presence = "presence", Conversation = "conversation",
    Contact = "contact", Notice = "notice", GoAway = "go_away",
    Scheduled = "scheduled", Hidden = "hidden",
});

/// What is wrong with a JSON document, where and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// The name of the field that can't be taken; empty: it is the whole document.
    pub field: String,
    error: serde_json::Error,
}

/// Reads one JSON document.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(bytes).map_err(|error| Unreadable { field: field_of::<T>(bytes), error })
}

/// The innermost field that can't be taken. Reads it all once more, which only those pay who send what is wrong.
fn field_of<T: DeserializeOwned>(bytes: &[u8]) -> String {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut document) else { return String::new() };
    if !error.inner().is_data() {
        return String::new();
    }
    let mut name = String::new();
    for segment in error.path() {
        if let Segment::Map { key } = segment {
            name.clone_from(key);
        }
    }
    name
}
