//! When requests are meant to be sent. Pure: time is nanoseconds since the run began.

/// How the requests of one connection are spread over time.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// The next request goes as soon as there is room for it.
    Closed,
    /// Request `k` of this connection is due at `first_ns + k * interval_ns`, whatever became of
    /// the ones before: latency counts from there, so a stall is not left out.
    Open { first_ns: f64, interval_ns: f64, taken: u64 },
}

impl Schedule {
    /// An open schedule's share of connection `connection` of `connections`: together they send
    /// `requests_per_s`, evenly, one after the other, from `start_ns` on.
    pub fn open(start_ns: u64, requests_per_s: f64, connection: usize, connections: usize) -> Self {
        let between_ns = 1e9 / requests_per_s;
        Self::Open {
            first_ns: start_ns as f64 + between_ns * connection as f64,
            interval_ns: between_ns * connections as f64,
            taken: 0,
        }
    }

    /// How many requests may be sent at `now_ns`.
    pub fn due(&self, now_ns: u64) -> u64 {
        match self {
            Self::Closed => u64::MAX,
            Self::Open { first_ns, interval_ns, taken } => {
                let since = now_ns as f64 - first_ns;
                if since < 0.0 {
                    0
                } else {
                    ((since / interval_ns) as u64 + 1).saturating_sub(*taken)
                }
            }
        }
    }

    /// Takes the next request: when it was meant to be sent.
    pub fn take(&mut self, now_ns: u64) -> u64 {
        match self {
            Self::Closed => now_ns,
            Self::Open { first_ns, interval_ns, taken } => {
                let intended = *first_ns + *taken as f64 * *interval_ns;
                *taken += 1;
                intended as u64
            }
        }
    }

    /// When the next request is due; `None` when that is a matter of room only.
    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Self::Closed => None,
            Self::Open { first_ns, interval_ns, taken } => {
                Some((*first_ns + *taken as f64 * *interval_ns) as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_loop_is_always_due_now() {
        let mut schedule = Schedule::Closed;
        assert_eq!(schedule.due(5), u64::MAX);
        assert_eq!(schedule.take(5), 5);
        assert_eq!(schedule.next_ns(), None);
    }

    #[test]
    fn an_open_loop_keeps_its_times_through_a_stall() {
        let mut schedule = Schedule::open(1_000, 1e6, 0, 1);
        assert_eq!(schedule.due(999), 0);
        assert_eq!(schedule.due(1_000), 1);
        assert_eq!(schedule.take(1_000), 1_000);
        assert_eq!(schedule.due(1_500), 0);
        assert_eq!(schedule.next_ns(), Some(2_000));
        // 10 us late: the requests missed are all due, each with its own time.
        assert_eq!(schedule.due(11_999), 10);
        for k in 0..10 {
            assert_eq!(schedule.take(11_999), 2_000 + k * 1_000);
        }
        assert_eq!(schedule.due(11_999), 0);
    }

    #[test]
    fn connections_share_the_rate_and_take_turns() {
        let schedules: Vec<_> = (0..4).map(|c| Schedule::open(0, 4_000.0, c, 4)).collect();
        let firsts: Vec<_> = schedules.iter().map(|s| s.next_ns().unwrap()).collect();
        assert_eq!(firsts, [0, 250_000, 500_000, 750_000]);
        let total: u64 = schedules.iter().map(|s| s.due(999_999_999)).sum();
        assert_eq!(total, 4_000);
    }

    #[test]
    fn a_long_run_does_not_drift() {
        let mut schedule = Schedule::open(0, 3.0, 0, 1);
        for _ in 0..3 * 86_400 {
            schedule.take(0);
        }
        let day_ns = 86_400 * 1_000_000_000_u64;
        assert!(schedule.next_ns().unwrap().abs_diff(day_ns) < 1_000);
    }
}
