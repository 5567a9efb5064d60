//! Who may connect: how many connections each client address and each core has. Shared by all
//! cores; looked at when a connection comes and when it goes, never in between.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::{AHashMap, RandomState};
use crossbeam::utils::CachePadded;
use model::CoreId;

/// The addresses are spread over so many tables, so that cores seldom meet at one.
const TABLES: usize = 64;

#[derive(Debug)]
pub struct Admission {
    /// 0: no bound.
    pub per_address_max: u32,
    hasher: RandomState,
    /// Only addresses with a connection are in here.
    tables: Vec<Mutex<AHashMap<IpAddr, u32>>>,
    /// Connections of each core, those on their way to it included.
    cores: Vec<CachePadded<AtomicU32>>,
}

impl Admission {
    pub fn new(cores: usize, per_address_max: u32) -> Self {
        Self {
            per_address_max,
            hasher: RandomState::new(),
            tables: (0..TABLES).map(|_| Mutex::default()).collect(),
            cores: (0..cores).map(|_| CachePadded::default()).collect(),
        }
    }

    /// A connection has come. Returns how many the address has now, with this one.
    pub fn enter(&self, address: IpAddr) -> u32 {
        let address = counted_as(address);
        let mut table = self.table(address);
        let count = table.entry(address).or_default();
        *count += 1;
        *count
    }

    /// A connection that had entered is gone.
    pub fn leave(&self, address: IpAddr) {
        let address = counted_as(address);
        let mut table = self.table(address);
        if let Some(count) = table.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                table.remove(&address);
            }
        }
    }

    pub fn enter_core(&self, core: CoreId) {
        self.cores[usize::from(core.0)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn leave_core(&self, core: CoreId) {
        self.cores[usize::from(core.0)].fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections a core has, as far as the caller can know.
    pub fn connections_of(&self, core: CoreId) -> u32 {
        self.cores[usize::from(core.0)].load(Ordering::Relaxed)
    }

    fn table(&self, address: IpAddr) -> MutexGuard<'_, AHashMap<IpAddr, u32>> {
        let at = self.hasher.hash_one(address) as usize % TABLES;
        // Nothing in here panics half way through a change.
        self.tables[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one client is taken for: any IPv6 host has the whole /64 of its network to choose from.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_and_forgotten() {
        let admission = Admission::new(1, 0);
        let one: IpAddr = "127.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let other: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(
            (admission.enter(one), admission.enter(mapped), admission.enter(other)),
            (1, 2, 1)
        );
        admission.leave(one);
        assert_eq!(admission.enter(one), 2);
        for address in [one, mapped, other] {
            admission.leave(address);
        }
        let kept: usize = admission.tables.iter().map(|table| table.lock().unwrap().len()).sum();
        assert_eq!(kept, 0, "an address without a connection takes no memory");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let admission = Admission::new(1, 0);
        let enter = |text: &str| admission.enter(text.parse().unwrap());
        assert_eq!((enter("2001:db8::1"), enter("2001:db8::ffff:ffff:ffff:ffff")), (1, 2));
        assert_eq!(enter("2001:db8:0:1::1"), 1);
        assert_eq!((enter("::ffff:10.0.0.1"), enter("10.0.0.2")), (1, 1));
        admission.leave("2001:db8::abcd".parse().unwrap());
        assert_eq!(enter("2001:db8::1"), 2);
    }

    #[test]
    fn cores_count_from_many_threads() {
        let admission = Admission::new(2, 0);
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        admission.enter(address);
                        admission.enter_core(CoreId(1));
                        admission.leave(address);
                    }
                });
            }
        });
        assert_eq!(admission.connections_of(CoreId(1)), 4_000);
        assert_eq!(admission.enter(address), 1);
    }
}
