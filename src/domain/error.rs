//! The one error that crosses layers: a code of the closed set, and a sentence that says how to mend it.

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::{ErrorCode, v1};

/// What a request came to instead of an answer. Each edge turns the code into its own form by one table:
/// HTTP status, close code, wire error, line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// One of the gRPC names.
    pub code: ErrorCode,
    /// What is wrong and how to mend it, in one English sentence.
    pub message: Cow<'static, str>,
    /// The offending field, for `invalid_argument`.
    pub field: Cow<'static, str>,
    /// When to try again, for `unavailable` and `resource_exhausted`; 0 otherwise.
    pub retry_after_ms: u64,
}

/// The result of everything that may be refused.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error without a better figure advises.
const DEFAULT_RETRY: Duration = Duration::from_millis(500);

impl Error {
    /// An error of any code.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let retry_after_ms = match code {
            ErrorCode::Unavailable | ErrorCode::ResourceExhausted => DEFAULT_RETRY.as_millis() as u64,
            _ => 0,
        };
        Self { code, message: message.into(), field: Cow::Borrowed(""), retry_after_ms }
    }

    /// A field of the request can't be taken.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), ..Self::new(ErrorCode::InvalidArgument, message) }
    }

    /// No valid credentials.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    /// The caller may not do this.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::PermissionDenied, message)
    }

    /// The thing named does not exist, or the caller may not know that it does.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The name or the relation is taken.
    pub fn exists(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::AlreadyExists, message)
    }

    /// The state of the thing does not allow it now.
    pub fn precondition(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::FailedPrecondition, message)
    }

    /// Too much; the caller should slow down.
    pub fn exhausted(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self {
            retry_after_ms: retry_after.as_millis() as u64,
            ..Self::new(ErrorCode::ResourceExhausted, message)
        }
    }

    /// A part that is needed is away. A send may have been stored: repeat it with the same client_id.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Whether the caller may repeat the same request and hope for another answer.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::Unavailable | ErrorCode::ResourceExhausted | ErrorCode::DeadlineExceeded
        )
    }
}

impl From<Error> for v1::Error {
    fn from(error: Error) -> Self {
        Self {
            code: error.code as i32,
            message: error.message.into_owned(),
            retry_after_ms: error.retry_after_ms,
            field: error.field.into_owned(),
        }
    }
}

impl From<v1::Error> for Error {
    fn from(error: v1::Error) -> Self {
        Self {
            code: error.code(),
            message: error.message.into(),
            field: error.field.into(),
            retry_after_ms: error.retry_after_ms,
        }
    }
}
