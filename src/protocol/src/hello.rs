//! The handshake: which version and features both sides speak, and who the client is.

use model::CoreId;
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, put_bytes, put_fixed, put_string};
use crate::frame::{TooLarge, put_frame};
use crate::kind;

/// The feature of a client that operates the server: it asks how the server is and steers it, and
/// is let in where others are refused, for nothing else.
pub const FEATURE_OPERATOR: u64 = 1;

/// The first frame of every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol version that the client speaks.
    pub version_min: u8,
    /// The newest.
    pub version_max: u8,
    /// A bit for each optional feature the client knows, such as [`FEATURE_OPERATOR`].
    pub features: u64,
    /// For the server's logs.
    pub client_name: String,
    /// How the client authenticates; empty: not at all.
    pub mechanism: String,
    /// What the mechanism needs.
    pub credentials: Vec<u8>,
}

/// 12 bytes, then client name, mechanism and credentials.
#[derive(Archive, Serialize)]
struct HelloBody {
    version_min: u8,
    version_max: u8,
    reserved: u16,
    features: u64,
}

/// What the server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloReply {
    /// The version to speak from here on.
    pub version: u8,
    /// The features that both sides know.
    pub features: u64,
    pub server_name: String,
    pub server_version: String,
    /// The core that serves this connection.
    pub core: CoreId,
    /// Largest frame either side may send, bytes.
    pub frame_bytes_max: u32,
    /// Largest record batch, bytes.
    pub batch_bytes_max: u32,
    /// Unanswered request bytes after which the server stops reading the connection.
    pub in_flight_bytes_max: u64,
}

/// 28 bytes, then server name and server version.
#[derive(Archive, Serialize)]
struct HelloReplyBody {
    version: u8,
    reserved: u8,
    core: u16,
    frame_bytes_max: u32,
    batch_bytes_max: u32,
    in_flight_bytes_max: u64,
    features: u64,
}

/// Writes a `Hello`. Fails when a string is over 65,535 bytes.
pub fn put_hello(out: &mut Vec<u8>, correlation: u64, hello: &Hello) -> Result<(), TooLarge> {
    let Hello { version_min, version_max, features, .. } = *hello;
    put_frame(out, kind::HELLO, correlation, |out| {
        put_fixed(out, &HelloBody { version_min, version_max, reserved: 0, features });
        put_string(out, "the client's name", &hello.client_name)?;
        put_string(out, "the mechanism", &hello.mechanism)?;
        put_bytes(out, &hello.credentials);
        Ok(())
    })
}

/// Reads a `Hello`. Whether its versions, mechanism and credentials will do is for the server.
pub fn parse_hello(body: &[u8]) -> Result<Hello, BodyError> {
    let mut cursor = Cursor::new(body);
    let fixed = cursor.fixed::<ArchivedHelloBody>("the versions")?;
    check_reserved(fixed.reserved.to_native().into(), "the versions")?;
    let hello = Hello {
        version_min: fixed.version_min,
        version_max: fixed.version_max,
        features: fixed.features.to_native(),
        client_name: cursor.string("the client's name")?.to_owned(),
        mechanism: cursor.string("the mechanism")?.to_owned(),
        credentials: cursor.bytes("the credentials")?.to_vec(),
    };
    cursor.end()?;
    Ok(hello)
}

/// Writes the answer to a `Hello`. Fails when a string is over 65,535 bytes.
pub fn put_hello_reply(
    out: &mut Vec<u8>,
    correlation: u64,
    reply: &HelloReply,
) -> Result<(), TooLarge> {
    put_frame(out, kind::HELLO_REPLY, correlation, |out| {
        let fixed = HelloReplyBody {
            version: reply.version,
            reserved: 0,
            core: reply.core.0,
            frame_bytes_max: reply.frame_bytes_max,
            batch_bytes_max: reply.batch_bytes_max,
            in_flight_bytes_max: reply.in_flight_bytes_max,
            features: reply.features,
        };
        put_fixed(out, &fixed);
        put_string(out, "the server's name", &reply.server_name)?;
        put_string(out, "the server's version", &reply.server_version)
    })
}

/// Reads the answer to a `Hello`.
pub fn parse_hello_reply(body: &[u8]) -> Result<HelloReply, BodyError> {
    let mut cursor = Cursor::new(body);
    let fixed = cursor.fixed::<ArchivedHelloReplyBody>("the server's limits")?;
    check_reserved(fixed.reserved.into(), "the server's limits")?;
    let reply = HelloReply {
        version: fixed.version,
        features: fixed.features.to_native(),
        server_name: cursor.string("the server's name")?.to_owned(),
        server_version: cursor.string("the server's version")?.to_owned(),
        core: CoreId(fixed.core.to_native()),
        frame_bytes_max: fixed.frame_bytes_max.to_native(),
        batch_bytes_max: fixed.batch_bytes_max.to_native(),
        in_flight_bytes_max: fixed.in_flight_bytes_max.to_native(),
    };
    cursor.end()?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_hello() {
        let hello = Hello {
            version_min: 1,
            version_max: 2,
            features: 0x0102,
            client_name: "ab".into(),
            mechanism: "m".into(),
            credentials: vec![9, 8],
        };
        let mut out = Vec::new();
        put_hello(&mut out, 5, &hello).unwrap();
        assert_eq!(out[..8], [41, 0, 0, 0, 1, 0, 2, 0]);
        let fixed = [1, 2, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
        let rest = [2, 0, b'a', b'b', 1, 0, b'm', 2, 0, 0, 0, 9, 8];
        assert_eq!(out[16..], [&fixed[..], &rest[..]].concat());
        assert_eq!(parse_hello(&out[16..]), Ok(hello));
    }

    #[test]
    fn golden_hello_reply() {
        let reply = HelloReply {
            version: 1,
            features: 3,
            server_name: "c".into(),
            server_version: "0.1".into(),
            core: CoreId(2),
            frame_bytes_max: 0x0100_0000,
            batch_bytes_max: 0x0080_0000,
            in_flight_bytes_max: 0x0200_0000,
        };
        let mut out = Vec::new();
        put_hello_reply(&mut out, 5, &reply).unwrap();
        assert_eq!(out[..8], [52, 0, 0, 0, 1, 0, 3, 0]);
        #[rustfmt::skip]
        let body = [
            1, 0, 2, 0,
            0, 0, 0, 1,
            0, 0, 0x80, 0,
            0, 0, 0, 2, 0, 0, 0, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
            1, 0, b'c', 3, 0, b'0', b'.', b'1',
        ];
        assert_eq!(out[16..], body);
        assert_eq!(parse_hello_reply(&out[16..]), Ok(reply));
    }
}
