//! What can go wrong between a client and a node.

use std::fmt;

use crate::domain::Error;
use crate::protocol::ErrorCode;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code that the server gave; `None` on TCP, or when the socket just broke.
    pub code: Option<u16>,
    /// In words.
    pub reason: String,
}

impl Close {
    /// An end without a code.
    pub fn broken(reason: impl Into<String>) -> Self {
        Self { code: None, reason: reason.into() }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} (close code {code})", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Why a request has no good answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("{0}")]
    Refused(#[from] Error),
    /// No connection could be made; nothing was sent.
    #[error("{endpoint} can't be reached: {reason}; check that a node listens there")]
    Unreachable {
        /// The host:port tried.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The connection ended first; the request may have been carried out.
    #[error("the connection ended before the answer came: {0}")]
    Closed(Close),
    /// No answer in time; the request may have been carried out.
    #[error("no answer within {0} ms")]
    Timeout(u64),
    /// The server said something that the protocol doesn't allow here.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The nearest code of the closed set.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.code,
            Self::Unreachable { .. } | Self::Closed(_) => ErrorCode::Unavailable,
            Self::Timeout(_) => ErrorCode::DeadlineExceeded,
            Self::Protocol(_) => ErrorCode::Internal,
        }
    }

    /// Whether a send that came to this must be repeated with the same client_id: it may have been stored, or it was
    /// refused for now only.
    pub fn may_repeat(&self) -> bool {
        matches!(
            self.code(),
            ErrorCode::Unavailable
                | ErrorCode::DeadlineExceeded
                | ErrorCode::Internal
                | ErrorCode::ResourceExhausted
        )
    }

    /// How long the server asks to wait before a repeat, in milliseconds; 0: it did not say.
    pub fn retry_after_ms(&self) -> u64 {
        match self {
            Self::Refused(error) => error.retry_after_ms,
            _ => 0,
        }
    }
}
