//! Frames and bodies, from the server's side and from the client's.

use protocol::{FRAME_HEADER_BYTES, FrameHeader, kind};

/// A connection's bytes as a server reads them.
pub fn requests(bytes: &[u8]) {
    each_frame(bytes, |header, body| {
        if header.kind == kind::HELLO
            && let Ok(hello) = protocol::parse_hello(body)
        {
            let mut again = Vec::new();
            protocol::put_hello(&mut again, header.correlation, &hello).unwrap();
            assert_eq!(&again[FRAME_HEADER_BYTES..], body);
        }
        if let Ok((request, deadline_ms)) = protocol::decode_request(header, body) {
            let mut again = Vec::new();
            protocol::put_request(&mut again, header.correlation, &request, deadline_ms).unwrap();
            assert_eq!(&again[FRAME_HEADER_BYTES..], body, "{request:?}");
        }
    });
}

/// A connection's bytes as a client reads them.
pub fn replies(bytes: &[u8]) {
    each_frame(bytes, |header, body| {
        let mut again = Vec::new();
        let whole = match header.kind {
            kind::HELLO_REPLY => protocol::parse_hello_reply(body).map(|reply| {
                protocol::put_hello_reply(&mut again, header.correlation, &reply).unwrap();
                true
            }),
            kind::GO_AWAY => protocol::parse_go_away(body).map(|away| {
                protocol::put_go_away(&mut again, &away);
                // An unknown reason is read as a general one, and a long sentence is cut.
                false
            }),
            kind::PRODUCE_ACK => protocol::ProduceAck::parse(body).map(|ack| {
                protocol::put_produce_ack(&mut again, &ack, header.correlation);
                true
            }),
            kind::DELIVER => protocol::DeliverHead::parse(body).map(|head| {
                protocol::put_deliver_head(&mut again, &head, 0);
                assert_eq!(again[FRAME_HEADER_BYTES..], body[..protocol::DELIVER_HEAD_BYTES]);
                false
            }),
            kind::FETCH_REPLY => protocol::FetchHead::parse(body).map(|head| {
                protocol::put_fetch_head(&mut again, header.correlation, &head, 0);
                assert_eq!(again[FRAME_HEADER_BYTES..], body[..protocol::FETCH_HEAD_BYTES]);
                false
            }),
            _ => {
                if let Ok(reply) = protocol::decode_reply(header, body) {
                    protocol::put_reply(&mut again, header.correlation, &reply).unwrap();
                    let (second, length) = protocol::next_frame(&again).unwrap().unwrap();
                    assert_eq!(length, again.len());
                    let body = &again[FRAME_HEADER_BYTES..];
                    assert_eq!(protocol::decode_reply(&second, body).as_ref(), Ok(&reply));
                }
                Ok(false)
            }
        };
        if whole == Ok(true) {
            assert_eq!(&again[FRAME_HEADER_BYTES..], body);
        }
    });
}

/// Frame by frame. Lengths that lie beyond the input are read as "the rest", so that a mutation of
/// a length does not hide what follows it.
pub fn each_frame(mut bytes: &[u8], mut frame: impl FnMut(&FrameHeader, &[u8])) {
    let _ = protocol::next_frame(bytes);
    while let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() {
        let mut head = *head;
        let claimed = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let length = claimed.clamp(FRAME_HEADER_BYTES, bytes.len());
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        (head[4], head[5]) = (protocol::PROTOCOL_VERSION, 0);
        let header = FrameHeader::parse(&head).unwrap();
        frame(&header, &bytes[FRAME_HEADER_BYTES..length]);
        bytes = &bytes[length..];
    }
}
