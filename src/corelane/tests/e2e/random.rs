//! Random numbers of tests, which can be had again.

/// Numbers that follow from a seed (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn of_this_run() -> Self {
        let seed = match std::env::var("CORELANE_SEED") {
            Ok(seed) => seed.parse().expect("CORELANE_SEED is a number"),
            Err(_) => u64::from(std::process::id()),
        };
        println!("CORELANE_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
