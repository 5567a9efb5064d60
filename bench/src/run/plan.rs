//! Which connection goes where and writes or reads which partitions. Pure.

use std::net::{SocketAddr, ToSocketAddrs};

use model::reply::CoreAddress;
use model::{CoreId, PartitionHandle, ShardId};

use crate::error::BenchError;
use crate::options::Route;

/// Where one connection goes, and its partitions by their place in the run's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub address: SocketAddr,
    pub partitions: Vec<u32>,
}

/// Spreads `connections` over the cores by `route`.
pub fn lanes(
    route: Route,
    address: SocketAddr,
    cores: &[CoreAddress],
    partitions: &[PartitionHandle],
    connections: usize,
) -> Result<Vec<Lane>, BenchError> {
    let all = || Lane { address, partitions: (0..partitions.len() as u32).collect() };
    if route == Route::Any || (route == Route::Owner && cores.len() < 2) {
        return Ok((0..connections).map(|_| all()).collect());
    }
    let mut kinds = Vec::new();
    for core in cores {
        let wanted = |shard: ShardId| core.shards.contains(&shard) == (route == Route::Owner);
        let mine: Vec<u32> = (0..partitions.len() as u32)
            .filter(|at| wanted(partitions[*at as usize].shard))
            .collect();
        if !mine.is_empty() {
            kinds.push(Lane { address: direct(core, address)?, partitions: mine });
        }
    }
    if kinds.is_empty() {
        return Err(BenchError::Options(
            "--route other needs a server with two cores or more; use --server-cores 2".into(),
        ));
    }
    Ok((0..connections).map(|at| kinds[at % kinds.len()].clone()).collect())
}

/// The core's own port; the listen address when it has none.
fn direct(core: &CoreAddress, listen: SocketAddr) -> Result<SocketAddr, BenchError> {
    if core.port == 0 {
        return Ok(listen);
    }
    let CoreAddress { core: CoreId(number), host, port, .. } = core;
    let found = (host.as_str(), *port).to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| {
        BenchError::Options(format!("core {number} says it is at {host}:{port}, which is nowhere"))
    })
}

/// Shares the partitions of lanes to the same address out among them. With more lanes than
/// partitions: several read the same one, or (`once`) those left over read nothing.
pub fn share_out(lanes: &mut Vec<Lane>, once: bool) {
    for address in lanes.iter().map(|lane| lane.address).collect::<std::collections::BTreeSet<_>>()
    {
        let mut same: Vec<&mut Lane> =
            lanes.iter_mut().filter(|lane| lane.address == address).collect();
        let count = same.len();
        for (at, lane) in same.iter_mut().enumerate() {
            let all = std::mem::take(&mut lane.partitions);
            lane.partitions = if all.len() >= count {
                all.into_iter().skip(at).step_by(count).collect()
            } else if once && at >= all.len() {
                Vec::new()
            } else {
                vec![all[at % all.len()]]
            };
        }
    }
    lanes.retain(|lane| !lane.partitions.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{StreamId, TopicId};

    fn listen() -> SocketAddr {
        "127.0.0.1:7300".parse().unwrap()
    }

    fn cores() -> Vec<CoreAddress> {
        let core = |n: u16| CoreAddress {
            core: CoreId(n),
            host: "127.0.0.1".into(),
            port: 7301 + n,
            shards: vec![ShardId(n)],
        };
        vec![core(0), core(1)]
    }

    fn partitions(shards: &[u16]) -> Vec<PartitionHandle> {
        let handle = |shard: &u16| PartitionHandle {
            topic: TopicId(1),
            stream: StreamId(1),
            shard: ShardId(*shard),
        };
        shards.iter().map(handle).collect()
    }

    fn ports_and_partitions(lanes: &[Lane]) -> Vec<(u16, Vec<u32>)> {
        lanes.iter().map(|l| (l.address.port(), l.partitions.clone())).collect()
    }

    #[test]
    fn owners_get_their_own_and_others_do_not() {
        let parts = partitions(&[0, 1, 0]);
        let own = lanes(Route::Owner, listen(), &cores(), &parts, 3).unwrap();
        assert_eq!(
            ports_and_partitions(&own),
            [(7301, vec![0, 2]), (7302, vec![1]), (7301, vec![0, 2])]
        );
        let other = lanes(Route::Other, listen(), &cores(), &parts, 2).unwrap();
        assert_eq!(ports_and_partitions(&other), [(7301, vec![1]), (7302, vec![0, 2])]);
        let any = lanes(Route::Any, listen(), &cores(), &parts, 1).unwrap();
        assert_eq!(ports_and_partitions(&any), [(7300, vec![0, 1, 2])]);
        assert!(lanes(Route::Other, listen(), &cores()[..1], &partitions(&[0]), 1).is_err());
        // One partition: only its owner gets connections.
        let one = lanes(Route::Owner, listen(), &cores(), &partitions(&[1]), 2).unwrap();
        assert_eq!(ports_and_partitions(&one), [(7302, vec![0]), (7302, vec![0])]);
    }

    #[test]
    fn readers_share_partitions_or_read_the_same() {
        let parts = partitions(&[0, 0, 0]);
        let mut shared = lanes(Route::Any, listen(), &cores(), &parts, 2).unwrap();
        share_out(&mut shared, false);
        assert_eq!(ports_and_partitions(&shared), [(7300, vec![0, 2]), (7300, vec![1])]);
        let mut same = lanes(Route::Any, listen(), &cores(), &parts[..1], 2).unwrap();
        let mut once = same.clone();
        share_out(&mut same, false);
        assert_eq!(ports_and_partitions(&same), [(7300, vec![0]), (7300, vec![0])]);
        share_out(&mut once, true);
        assert_eq!(ports_and_partitions(&once), [(7300, vec![0])]);
    }
}
