//! The one table that turns an error's code into what each edge answers: HTTP status, WebSocket close code, line.

use actix_web::http::StatusCode;

use crate::domain::Error;
use crate::protocol::{ErrorCode, line};

/// The HTTP status of a code.
pub fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Ok => StatusCode::OK,
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists => StatusCode::CONFLICT,
        ErrorCode::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        ErrorCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The WebSocket close code for an error that ends a connection. One of the protocol's list: what a client should not
/// repeat is 4400, what it may try elsewhere is 1001.
pub fn close_code(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::Ok => CLOSE_NORMAL,
        ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => CLOSE_NOT_SIGNED_IN,
        ErrorCode::ResourceExhausted => CLOSE_TOO_SLOW,
        ErrorCode::Unavailable | ErrorCode::DeadlineExceeded | ErrorCode::Internal => CLOSE_GOING_AWAY,
        ErrorCode::InvalidArgument
        | ErrorCode::NotFound
        | ErrorCode::AlreadyExists
        | ErrorCode::FailedPrecondition => CLOSE_PROTOCOL_ERROR,
    }
}

/// Normal closure.
pub const CLOSE_NORMAL: u16 = 1000;
/// The node goes away, or can't serve the connection now.
pub const CLOSE_GOING_AWAY: u16 = 1001;
/// A client frame larger than `max_frame_bytes`.
pub const CLOSE_TOO_BIG: u16 = 1009;
/// What arrived can't be parsed as the framing, or ten bad frames in a row.
pub const CLOSE_PROTOCOL_ERROR: u16 = 4400;
/// Not signed in in time, too many failed tries, or the token was revoked.
pub const CLOSE_NOT_SIGNED_IN: u16 = 4401;
/// A client that reads too slowly.
pub const CLOSE_TOO_SLOW: u16 = 4429;

/// The `-ERR` line of an error, without its end. A taken name is the protocol's one word, `exists`.
pub fn error_line(error: &Error) -> String {
    match error.code {
        ErrorCode::AlreadyExists => line::error_line("exists"),
        _ => line::error_line(&error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [(ErrorCode, u16, u16); 10] = [
        (ErrorCode::InvalidArgument, 400, 4400),
        (ErrorCode::Unauthenticated, 401, 4401),
        (ErrorCode::PermissionDenied, 403, 4401),
        (ErrorCode::NotFound, 404, 4400),
        (ErrorCode::AlreadyExists, 409, 4400),
        (ErrorCode::FailedPrecondition, 412, 4400),
        (ErrorCode::ResourceExhausted, 429, 4429),
        (ErrorCode::Unavailable, 503, 1001),
        (ErrorCode::DeadlineExceeded, 504, 1001),
        (ErrorCode::Internal, 500, 1001),
    ];

    #[test]
    fn every_code_has_the_status_of_the_protocol() {
        for (code, status, close) in CODES {
            assert_eq!(http_status(code).as_u16(), status, "{}", code.as_str_name());
            assert_eq!(close_code(code), close, "{}", code.as_str_name());
            let line = error_line(&Error::new(code, "why"));
            let expected = if code == ErrorCode::AlreadyExists { "-ERR exists" } else { "-ERR why" };
            assert_eq!(line, expected);
        }
    }
}
