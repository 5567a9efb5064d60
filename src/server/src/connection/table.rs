//! The connections of one core, by slot, each slot's user told apart by a generation.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use model::CoreId;
use slab::Slab;

use super::Connection;
use crate::message::ConnectionId;

#[derive(Debug)]
pub struct ConnectionTable {
    core: CoreId,
    slots: Slab<Connection>,
    generation: u32,
}

impl ConnectionTable {
    pub fn new(core: CoreId) -> Self {
        Self { core, slots: Slab::new(), generation: 0 }
    }

    pub fn insert(
        &mut self,
        socket: OwnedFd,
        peer: Option<SocketAddr>,
        now_ns: u64,
    ) -> ConnectionId {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let id = ConnectionId {
            core: self.core,
            index: u32::try_from(entry.key()).unwrap_or(u32::MAX),
            generation: self.generation,
        };
        entry.insert(Connection::new(id, socket, peer, now_ns));
        id
    }

    /// `None` when the connection has ended.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.index as usize).filter(|connection| connection.id == id)
    }

    /// By slot and generation, as a completion of the ring names it.
    pub fn find(&self, index: u32, generation: u32) -> Option<ConnectionId> {
        let id = self.slots.get(index as usize)?.id;
        (id.generation == generation).then_some(id)
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get_mut(id)?;
        self.slots.try_remove(id.index as usize)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().map(|(_, connection)| connection.id).collect()
    }
}
