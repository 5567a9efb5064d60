//! The ways that are counted.

use crate::rig::Rig;

/// What one turn of a way does, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub name: &'static str,
    /// Publishes in a turn.
    frames: u32,
    /// Messages in each.
    batch: u32,
    payload_bytes: usize,
    does: Does,
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Publish,
    /// Publishes, and delivers to a subscription.
    Deliver,
    /// Publishes, and answers one fetch for all of it.
    Fetch,
}

pub const ALL: &[Way] = &[
    Way::new("publish-1x1KiB", 1, 1, 1024, Does::Publish),
    Way::new("publish-64x100B", 64, 1, 100, Does::Publish),
    Way::new("publish-64x1KiB", 64, 1, 1024, Does::Publish),
    Way::new("publish-4x100x1KiB", 4, 100, 1024, Does::Publish),
    Way::new("publish-deliver-1x1KiB", 1, 1, 1024, Does::Deliver),
    Way::new("publish-deliver-64x100B", 64, 1, 100, Does::Deliver),
    Way::new("publish-fetch-64x100B", 64, 1, 100, Does::Fetch),
];

impl Way {
    const fn new(
        name: &'static str,
        frames: u32,
        batch: u32,
        payload_bytes: usize,
        does: Does,
    ) -> Self {
        Self { name, frames, batch, payload_bytes, does }
    }

    pub fn messages_per_turn(&self) -> u32 {
        self.frames * self.batch
    }

    /// Goes so many turns, and checks that it arrived.
    pub fn go(&self, turns: u32) {
        let mut rig = Rig::new(self.frames, self.batch, self.payload_bytes);
        if let Does::Deliver = self.does {
            rig.subscribe();
        }
        for _ in 0..turns {
            rig.receive();
            match self.does {
                Does::Publish => {}
                Does::Deliver => rig.deliver(),
                Does::Fetch => rig.fetch(),
            }
        }
        let messages = u64::from(turns) * u64::from(self.messages_per_turn());
        let read = match self.does {
            Does::Publish => 0,
            Does::Deliver | Does::Fetch => messages,
        };
        assert_eq!((rig.acknowledged, rig.read), (messages, read), "{}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_arrives() {
        for way in ALL {
            way.go(30);
        }
    }
}
