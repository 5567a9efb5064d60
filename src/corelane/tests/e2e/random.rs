//! Random numbers of tests, which can be had again.

use corelane_load_test::random;

/// Numbers that follow from a seed.
pub struct Random(random::Random);

impl Random {
    pub fn of_this_run() -> Self {
        let seed = match std::env::var("CORELANE_SEED") {
            Ok(seed) => seed.parse().expect("CORELANE_SEED is a number"),
            Err(_) => u64::from(std::process::id()),
        };
        println!("CORELANE_SEED={seed}");
        Self(random::Random::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.number()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.between(0, bound)
    }
}
