//! Whole frames out of a stream of received pieces. A frame that lies within one piece is not
//! copied.

use protocol::{FrameError, FrameHeader, next_frame};

/// The part of a frame that has arrived, of one connection.
#[derive(Debug, Default)]
pub struct Inbound {
    /// The beginning of a frame whose rest is still to come; bounded by the frame limit.
    carry: Vec<u8>,
}

impl Inbound {
    /// Hands every whole frame to `on_frame`, in order, with its body.
    pub fn feed<E: From<FrameError>>(
        &mut self,
        mut data: &[u8],
        mut on_frame: impl FnMut(&FrameHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.carry.is_empty() && !data.is_empty() {
            let taken = self.missing()?.min(data.len());
            self.carry.extend_from_slice(&data[..taken]);
            data = &data[taken..];
            if let Some((header, length)) = next_frame(&self.carry)? {
                on_frame(&header, &self.carry[protocol::FRAME_HEADER_BYTES..length])?;
                self.carry.clear();
            }
        }
        while let Some((header, length)) = next_frame(data)? {
            on_frame(&header, &data[protocol::FRAME_HEADER_BYTES..length])?;
            data = &data[length..];
        }
        self.carry.extend_from_slice(data);
        Ok(())
    }

    /// Bytes that the carried frame still lacks: of its header first, then of the whole.
    fn missing(&self) -> Result<usize, FrameError> {
        let Some(header) = self.carry.first_chunk::<{ protocol::FRAME_HEADER_BYTES }>() else {
            return Ok(protocol::FRAME_HEADER_BYTES - self.carry.len());
        };
        Ok(FrameHeader::parse(header)?.length as usize - self.carry.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Request;
    use protocol::put_request;

    #[test]
    fn frames_come_out_the_same_however_they_are_cut() {
        let mut stream = Vec::new();
        for correlation in 0..20 {
            put_request(&mut stream, correlation, &Request::Ping, 7).unwrap();
            let filter = "x".repeat(correlation as usize * 3);
            put_request(&mut stream, 100 + correlation, &Request::SetLogFilter { filter }, 0)
                .unwrap();
        }
        let cut_at = |piece: usize| {
            let (mut inbound, mut seen) = (Inbound::default(), Vec::new());
            for data in stream.chunks(piece) {
                inbound
                    .feed(data, |header, body| {
                        seen.push((header.correlation, body.to_vec()));
                        Ok::<(), FrameError>(())
                    })
                    .unwrap();
            }
            seen
        };
        let whole = cut_at(stream.len());
        assert_eq!(whole.len(), 40);
        for piece in 1..60 {
            assert_eq!(cut_at(piece), whole, "in pieces of {piece}");
        }
    }
}
