//! What goes wrong, on the wire: `Error`, the reply any request may get, and `GoAway`.

use model::{ErrorCode, Rejection};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, clipped, flag, put_fixed, put_string};
use crate::frame::put_frame;
use crate::kind;

/// Longer messages are cut, bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// 4 bytes, then the message.
#[derive(Archive, Serialize)]
struct ErrorBody {
    code: u16,
    retryable: u8,
    reserved: u8,
}

/// Writes an error reply. Its message is cut at 4096 bytes.
pub fn put_error(out: &mut Vec<u8>, correlation: u64, rejection: &Rejection) {
    let Rejection { code, message } = rejection;
    let written = put_frame(out, kind::ERROR, correlation, |out| {
        let retryable = code.is_retryable().into();
        put_fixed(out, &ErrorBody { code: *code as u16, retryable, reserved: 0 });
        put_string(out, "the message", clipped(message, MESSAGE_BYTES_MAX))
    });
    debug_assert!(written.is_ok(), "a cut message fits every frame");
}

/// Reads an error. A code this version does not know becomes `Busy` when it is retryable and
/// `InvalidArgument` otherwise, with the number in the message.
pub(crate) fn read_error(cursor: &mut Cursor) -> Result<Rejection, BodyError> {
    let body = cursor.fixed::<ArchivedErrorBody>("the error")?;
    check_reserved(body.reserved.into(), "the error")?;
    let retryable = flag(body.retryable, "the retryable bit")?;
    let (number, message) = (body.code.to_native(), cursor.string("the message")?);
    Ok(match (ErrorCode::from_wire(number), retryable) {
        (Some(code), _) => Rejection::new(code, message),
        (None, true) => Rejection::new(ErrorCode::Busy, format!("error {number}: {message}")),
        (None, false) => {
            Rejection::new(ErrorCode::InvalidArgument, format!("error {number}: {message}"))
        }
    })
}

/// The server is about to close the connection: finish what is in flight and go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub reason: ErrorCode,
    /// Milliseconds until the server closes; new requests may be refused before.
    pub close_in_ms: u32,
    /// Cut at 4096 bytes when written.
    pub message: String,
}

/// 8 bytes, then the message.
#[derive(Archive, Serialize)]
struct GoAwayBody {
    reason: u16,
    reserved: u16,
    close_in_ms: u32,
}

/// Writes a `GoAway`; its correlation is 0.
pub fn put_go_away(out: &mut Vec<u8>, go_away: &GoAway) {
    let GoAway { reason, close_in_ms, message } = go_away;
    let written = put_frame(out, kind::GO_AWAY, 0, |out| {
        let close_in_ms = *close_in_ms;
        put_fixed(out, &GoAwayBody { reason: *reason as u16, reserved: 0, close_in_ms });
        put_string(out, "the message", clipped(message, MESSAGE_BYTES_MAX))
    });
    debug_assert!(written.is_ok(), "a cut message fits every frame");
}

/// Reads a `GoAway`; a reason this version does not know reads as `ShuttingDown`.
pub fn parse_go_away(body: &[u8]) -> Result<GoAway, BodyError> {
    let mut cursor = Cursor::new(body);
    let fixed = cursor.fixed::<ArchivedGoAwayBody>("the reason")?;
    check_reserved(fixed.reserved.to_native().into(), "the reason")?;
    let message = cursor.string("the message")?.to_owned();
    cursor.end()?;
    Ok(GoAway {
        reason: ErrorCode::from_wire(fixed.reason.to_native()).unwrap_or(ErrorCode::ShuttingDown),
        close_in_ms: fixed.close_in_ms.to_native(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_error() {
        let mut out = Vec::new();
        put_error(&mut out, 9, &Rejection::new(ErrorCode::Busy, "hold"));
        let header = [26, 0, 0, 0, 1, 0, 0x7F, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(out[..16], header);
        assert_eq!(out[16..], [30, 0, 1, 0, 4, 0, b'h', b'o', b'l', b'd']);
        let read = read_error(&mut Cursor::new(&out[16..])).unwrap();
        assert_eq!(read, Rejection::new(ErrorCode::Busy, "hold"));
    }

    #[test]
    fn unknown_codes_keep_their_retryable_bit() {
        let read = |bytes: &[u8]| read_error(&mut Cursor::new(bytes)).unwrap();
        assert!(read(&[0xFF, 0x7F, 1, 0, 0, 0]).code.is_retryable());
        assert!(!read(&[0xFF, 0x7F, 0, 0, 0, 0]).code.is_retryable());
    }

    #[test]
    fn golden_go_away() {
        let go_away =
            GoAway { reason: ErrorCode::ShuttingDown, close_in_ms: 500, message: "x".into() };
        let mut out = Vec::new();
        put_go_away(&mut out, &go_away);
        assert_eq!(out[..8], [27, 0, 0, 0, 1, 0, 0x7D, 0]);
        assert_eq!(out[16..], [31, 0, 0, 0, 0xF4, 1, 0, 0, 1, 0, b'x']);
        assert_eq!(parse_go_away(&out[16..]), Ok(go_away));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let mut out = Vec::new();
        put_error(&mut out, 0, &Rejection::new(ErrorCode::Busy, "é".repeat(70_000)));
        let read = read_error(&mut Cursor::new(&out[16..])).unwrap();
        assert_eq!(read.message.len(), MESSAGE_BYTES_MAX);
    }
}
