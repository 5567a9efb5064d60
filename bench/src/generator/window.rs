//! The requests under way on one connection: each is answered once, in any order.

/// One request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When it was meant to be sent, nanoseconds since the run began.
    pub intended_ns: u64,
    /// Where the partition stands in the producer's own list.
    pub partition: u32,
    /// Which of the run's sizes it has.
    pub class: u16,
    under_way: bool,
}

/// Why an acknowledgement was not expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request {correlation} was acknowledged, and it is not under way: {why}")]
pub struct Unexpected {
    pub correlation: u64,
    pub why: &'static str,
}

/// A ring of requests by correlation id. Ids are consecutive, so that acks may cover runs.
#[derive(Debug)]
pub struct Window {
    slots: Vec<Sent>,
    limit: usize,
    under_way: usize,
    /// The oldest correlation id not yet answered.
    oldest: u64,
    next: u64,
}

impl Window {
    /// At most `limit` requests under way. One left behind while others are answered holds up
    /// sending once it is `4 * limit` ids old.
    pub fn new(limit: usize) -> Self {
        let empty = Sent { intended_ns: 0, partition: 0, class: 0, under_way: false };
        let slots = vec![empty; (limit * 4).next_power_of_two()];
        Self { slots, limit, under_way: 0, oldest: 1, next: 1 }
    }

    /// How many more requests may be sent now.
    pub fn room(&self) -> usize {
        let span = (self.next - self.oldest) as usize;
        (self.limit - self.under_way).min(self.slots.len() - span)
    }

    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Enters a request; there must be room. Returns its correlation id.
    pub fn send(&mut self, intended_ns: u64, partition: u32, class: u16) -> u64 {
        assert!(self.room() > 0, "a request was sent with no room for it");
        let correlation = self.next;
        let at = self.at(correlation);
        self.slots[at] = Sent { intended_ns, partition, class, under_way: true };
        self.next += 1;
        self.under_way += 1;
        correlation
    }

    /// Takes the answer to `correlation`.
    pub fn answered(&mut self, correlation: u64) -> Result<Sent, Unexpected> {
        if correlation >= self.next {
            return Err(Unexpected { correlation, why: "it was never sent" });
        }
        let at = self.at(correlation);
        if correlation < self.oldest || !self.slots[at].under_way {
            return Err(Unexpected { correlation, why: "it was acknowledged before" });
        }
        self.slots[at].under_way = false;
        self.under_way -= 1;
        let sent = self.slots[at];
        while self.oldest < self.next && !self.slots[self.at(self.oldest)].under_way {
            self.oldest += 1;
        }
        Ok(sent)
    }

    fn at(&self, correlation: u64) -> usize {
        correlation as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_order_make_room_once() {
        let mut window = Window::new(3);
        let ids: Vec<_> = (0..3).map(|k| window.send(k * 10, k as u32, 0)).collect();
        assert_eq!(window.room(), 0);
        assert_eq!(window.answered(ids[2]).unwrap().intended_ns, 20);
        assert_eq!(window.answered(ids[0]).unwrap().partition, 0);
        assert_eq!(window.room(), 2);
        assert_eq!(window.answered(ids[0]).unwrap_err().why, "it was acknowledged before");
        assert_eq!(window.answered(ids[2]).unwrap_err().why, "it was acknowledged before");
        assert_eq!(window.answered(99).unwrap_err().why, "it was never sent");
        assert_eq!(window.under_way(), 1);
    }

    #[test]
    fn one_left_behind_stops_the_sending_in_the_end() {
        let mut window = Window::new(2);
        let stuck = window.send(0, 0, 0);
        let mut sent = 0;
        while window.room() > 0 {
            let id = window.send(0, 0, 0);
            window.answered(id).unwrap();
            sent += 1;
        }
        assert_eq!(sent, 7);
        window.answered(stuck).unwrap();
        assert_eq!(window.room(), 2);
    }
}
