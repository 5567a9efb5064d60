//! Messages on their way: to another core through the mesh, to this core through a list that is
//! worked off in the same turn. Who sends does not need to know which of the two it is.

use std::collections::VecDeque;

use model::{CoreId, Rejection, Reply};

use crate::mesh::MeshEnd;
use crate::message::{Message, Origin};

#[derive(Debug)]
pub struct Outbox {
    pub mesh: MeshEnd,
    local: VecDeque<Message>,
}

impl Outbox {
    pub fn new(mesh: MeshEnd) -> Self {
        Self { mesh, local: VecDeque::new() }
    }

    pub fn core(&self) -> CoreId {
        self.mesh.core()
    }

    pub fn send(&mut self, to: CoreId, message: Message) {
        if to == self.mesh.core() {
            self.local.push_back(message);
        } else {
            self.mesh.send(to, message);
        }
    }

    pub fn reply(&mut self, origin: Origin, reply: Reply) {
        self.send(origin.connection.core, Message::Reply { origin, reply: Box::new(reply) });
    }

    pub fn reject(&mut self, origin: Origin, rejection: Rejection) {
        self.reply(origin, Reply::Rejected(rejection));
    }

    pub fn has_local(&self) -> bool {
        !self.local.is_empty()
    }

    /// The next message of this core to itself.
    pub fn take_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }
}
