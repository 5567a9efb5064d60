//! Whether a core that has found nothing to do looks for more, and for how long, before it sleeps.
//! A decision from times handed in; knows neither clocks nor rings.

/// Looking is given up where it would take longer than this, unless an option says otherwise.
pub const ADAPTIVE_SPIN_NS_MAX: u64 = 200_000;
/// Looks between two readings of the clock: about 2 us.
pub const LOOKS_PER_READING: u32 = 32;
/// Two readings further apart than this: something else may have had the CPU.
pub const INTERRUPTED_NS: u64 = 300_000;
/// A core that does not have its CPU for itself looks for nothing for so long, then for twice that...
const CROWDED_NS_MIN: u64 = 20_000_000;
/// ...and never for longer than this.
const CROWDED_NS_MAX: u64 = 2_000_000_000;
/// Uninterrupted for so long after that, the next time is like the first.
const CALM_NS: u64 = 1_000_000_000;
/// Looking goes on a little beyond what is expected.
const SLACK_NS: u64 = 20_000;
/// A gap weighs one part in so many (a power of two) of what is expected.
const GAP_WEIGHT_LOG2: u32 = 3;
/// After so many searches in vain, one after the other, the core sleeps 2 to that many times at once.
const VAIN_MAX: u32 = 8;

/// What a core is told of looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpinConfig {
    /// The longest a core looks, nanoseconds. 0: never, or the default when it is to adapt.
    pub spin_ns: u64,
    /// Only while work is near; else for the whole time.
    pub adaptive: bool,
}

/// What an idle core waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The end of a log write, or whatever comes before it.
    Disk,
    /// Clients and other cores.
    Arrival,
}

/// Decides for one core.
#[derive(Debug)]
pub struct Idle {
    config: SpinConfig,
    disk: Gaps,
    arrival: Gaps,
    /// Until then the CPU is left to others.
    crowded_until_ns: u64,
    crowded_ns: u64,
    /// How long the core's thread had waited for its CPU when last asked.
    waited_ns: u64,
}

/// How long it takes from nothing to do to something to do.
#[derive(Debug)]
struct Gaps {
    expected_ns: u64,
    /// Searches in vain since the last that was not.
    vain: u32,
    /// Times to sleep at once.
    pass: u32,
}

impl Idle {
    /// `pinned`: the core has a CPU that is meant for it alone.
    pub fn new(config: SpinConfig, pinned: bool) -> Self {
        let mut config = if pinned { config } else { SpinConfig::default() };
        if config.adaptive && config.spin_ns == 0 {
            config.spin_ns = ADAPTIVE_SPIN_NS_MAX;
        }
        let gaps = || Gaps { expected_ns: 2 * config.spin_ns, vain: 0, pass: 0 };
        Self {
            config,
            disk: gaps(),
            arrival: gaps(),
            crowded_until_ns: 0,
            crowded_ns: 0,
            waited_ns: 0,
        }
    }

    /// Whether the core ever looks; if not, nothing needs to be measured.
    pub fn is_on(&self) -> bool {
        self.config.spin_ns > 0
    }

    /// How long to look now, nanoseconds; 0: sleep at once.
    pub fn span_ns(&mut self, awaited: Awaited, now_ns: u64) -> u64 {
        let (config, crowded) = (self.config, now_ns < self.crowded_until_ns);
        if !config.adaptive {
            return config.spin_ns;
        }
        let gaps = self.gaps(awaited);
        let span_ns = 2 * gaps.expected_ns + SLACK_NS;
        if crowded || span_ns > config.spin_ns {
            return 0;
        }
        if gaps.pass > 0 {
            gaps.pass -= 1;
            return 0;
        }
        span_ns
    }

    /// Something to do has come `gap_ns` after there was nothing, found awake or asleep.
    pub fn ended(&mut self, awaited: Awaited, gap_ns: u64) {
        let gap_ns = gap_ns.min(2 * self.config.spin_ns);
        let gaps = self.gaps(awaited);
        let weight = 1 << GAP_WEIGHT_LOG2;
        gaps.expected_ns = (gaps.expected_ns * (weight - 1) + gap_ns) >> GAP_WEIGHT_LOG2;
    }

    /// The core has looked and found something.
    pub fn found(&mut self, awaited: Awaited) {
        self.gaps(awaited).vain = 0;
    }

    /// The core has looked for the whole span and found nothing.
    pub fn in_vain(&mut self, awaited: Awaited) {
        let gaps = self.gaps(awaited);
        gaps.vain = (gaps.vain + 1).min(VAIN_MAX);
        gaps.pass = (1 << gaps.vain) - 2;
    }

    /// Whether the time just lost went to another thread of this machine, and not to the host of a
    /// virtual one, which giving way would not please. `waited_ns`: for how long in all the thread was
    /// ready to run and did not, if the kernel tells.
    pub fn has_waited(&mut self, waited_ns: Option<u64>) -> bool {
        let Some(waited_ns) = waited_ns else { return true };
        let before_ns = std::mem::replace(&mut self.waited_ns, waited_ns);
        waited_ns.saturating_sub(before_ns) > INTERRUPTED_NS / 2
    }

    /// Something else had the CPU while the core looked: the next times it gives way at once.
    pub fn interrupted(&mut self, now_ns: u64) {
        let calm = now_ns > self.crowded_until_ns.saturating_add(CALM_NS);
        let before_ns = if calm { 0 } else { self.crowded_ns };
        self.crowded_ns = (2 * before_ns).clamp(CROWDED_NS_MIN, CROWDED_NS_MAX);
        self.crowded_until_ns = now_ns.saturating_add(self.crowded_ns);
    }

    fn gaps(&mut self, awaited: Awaited) -> &mut Gaps {
        match awaited {
            Awaited::Disk => &mut self.disk,
            Awaited::Arrival => &mut self.arrival,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    fn adaptive() -> Idle {
        Idle::new(SpinConfig { spin_ns: 0, adaptive: true }, true)
    }

    /// So many gaps of this length, slept through.
    fn sleep_through(idle: &mut Idle, awaited: Awaited, gap_us: u64, times: u32) {
        for _ in 0..times {
            idle.ended(awaited, gap_us * US);
        }
    }

    #[test]
    fn off_and_unpinned_cores_never_look() {
        let mut off = Idle::new(SpinConfig::default(), true);
        assert!(!off.is_on());
        assert_eq!(off.span_ns(Awaited::Disk, 0), 0);
        for adaptive in [false, true] {
            let unpinned = Idle::new(SpinConfig { spin_ns: 50 * US, adaptive }, false);
            assert!(!unpinned.is_on());
        }
    }

    #[test]
    fn a_fixed_span_is_kept_whatever_comes() {
        let mut idle = Idle::new(SpinConfig { spin_ns: 50 * US, adaptive: false }, true);
        sleep_through(&mut idle, Awaited::Arrival, 1_000_000, 20);
        idle.in_vain(Awaited::Arrival);
        idle.interrupted(0);
        assert_eq!(idle.span_ns(Awaited::Arrival, 1), 50 * US);
    }

    #[test]
    fn looking_begins_when_work_is_near_and_ends_when_it_is_not() {
        let mut idle = adaptive();
        assert_eq!(idle.span_ns(Awaited::Disk, 0), 0, "nothing is known of the disk");
        sleep_through(&mut idle, Awaited::Disk, 50, 30);
        let span = idle.span_ns(Awaited::Disk, 0);
        assert!((100 * US..ADAPTIVE_SPIN_NS_MAX).contains(&span), "{span}");
        assert_eq!(idle.span_ns(Awaited::Arrival, 0), 0, "the two are apart");
        sleep_through(&mut idle, Awaited::Disk, 5_000, 4);
        assert_eq!(idle.span_ns(Awaited::Disk, 0), 0, "the disk has become slow");
    }

    #[test]
    fn one_long_pause_is_forgotten_soon() {
        let mut idle = adaptive();
        sleep_through(&mut idle, Awaited::Arrival, 30, 50);
        sleep_through(&mut idle, Awaited::Arrival, 3_600_000_000, 1);
        sleep_through(&mut idle, Awaited::Arrival, 30, 2);
        assert!(idle.span_ns(Awaited::Arrival, 0) > 0);
    }

    #[test]
    fn what_is_never_found_awake_is_looked_for_ever_more_rarely() {
        let mut idle = adaptive();
        sleep_through(&mut idle, Awaited::Disk, 50, 30);
        let mut looked = 0;
        for _ in 0..1_000 {
            if idle.span_ns(Awaited::Disk, 0) > 0 {
                looked += 1;
                idle.in_vain(Awaited::Disk);
            }
        }
        assert!((4..20).contains(&looked), "{looked}");
        // Found again: as before.
        idle.found(Awaited::Disk);
        while idle.span_ns(Awaited::Disk, 0) == 0 {}
        assert!(idle.span_ns(Awaited::Disk, 0) > 0);
    }

    #[test]
    fn time_that_the_host_took_is_no_other_thread() {
        let mut idle = adaptive();
        assert!(idle.has_waited(None), "who knows");
        assert!(idle.has_waited(Some(5_000 * US)));
        assert!(!idle.has_waited(Some(5_000 * US)), "no more than before");
        assert!(!idle.has_waited(Some(5_010 * US)));
        assert!(idle.has_waited(Some(5_400 * US)));
    }

    #[test]
    fn a_crowded_cpu_is_left_to_the_others_for_longer_each_time() {
        let mut idle = adaptive();
        sleep_through(&mut idle, Awaited::Disk, 50, 30);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(idle.span_ns(Awaited::Disk, now) > 0);
            idle.interrupted(now);
            assert_eq!(idle.span_ns(Awaited::Disk, now), 0);
            pauses.push(idle.crowded_until_ns - now);
            now = idle.crowded_until_ns;
        }
        assert!(pauses.is_sorted() && pauses[0] == CROWDED_NS_MIN, "{pauses:?}");
        assert_eq!(pauses.last(), Some(&CROWDED_NS_MAX));
        now += CALM_NS + 1;
        assert!(idle.span_ns(Awaited::Disk, now) > 0);
        idle.interrupted(now);
        assert_eq!(idle.crowded_until_ns - now, CROWDED_NS_MIN, "calm again");
    }
}
