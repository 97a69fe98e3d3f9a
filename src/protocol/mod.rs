//! What goes over the wires: types generated from `proto/`, their JSON form, and the framings.
//!
//! The generated messages are plain data, and the rest of the crate uses them as such; see `docs/decisions/0002`.
//! Nothing outside this module encodes or decodes them.

pub mod codec;
pub mod json;
pub mod line;
pub mod salvage;

/// Frames and objects of the client protocol, from `proto/client.proto`.
#[allow(missing_docs, reason = "generated; documented in the proto file")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/rookery.v1.rs"));
}

/// What nodes say to each other, from `proto/cluster.proto`.
pub mod cluster {
    pub use self::v1::*;

    /// Named as the package, which the generated paths lean on.
    #[allow(missing_docs, reason = "generated; documented in the proto file")]
    #[allow(clippy::large_enum_variant, reason = "generated")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/rookery.cluster.v1.rs"));
    }
}

pub use v1::{
    contact_state::State as ContactState, conversation_kind::Kind as ConversationKind,
    error_code::Code as ErrorCode, join_policy::Policy as JoinPolicy, member_role::Role as MemberRole,
    message_kind::Kind as MessageKind, notification_level::Level as NotificationLevel,
    presence_status::Status as PresenceStatus,
};

/// The version that `welcome.version` and the admin endpoint report.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
