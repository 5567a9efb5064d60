//! Which connection has its next request due when. With many connections only those that are due
//! are looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Connections by the time of their next request; each at most once.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    entered: Vec<bool>,
}

impl Agenda {
    pub fn new(connections: usize) -> Self {
        let heap = BinaryHeap::with_capacity(connections);
        Self { heap, entered: vec![false; connections] }
    }

    /// Enters `connection`, unless it is there already: its time does not change while it waits.
    pub fn enter(&mut self, connection: usize, due_ns: u64) {
        if !std::mem::replace(&mut self.entered[connection], true) {
            self.heap.push(Reverse((due_ns, connection)));
        }
    }

    /// When the first of all is due.
    pub fn first_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// Takes out the first, if it is due by `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<usize> {
        if self.first_ns()? > now_ns {
            return None;
        }
        let Reverse((_, connection)) = self.heap.pop()?;
        self.entered[connection] = false;
        Some(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_out_when_due_once_each() {
        let mut agenda = Agenda::new(3);
        for (connection, due_ns) in [(2, 30), (0, 10), (1, 20), (0, 99)] {
            agenda.enter(connection, due_ns);
        }
        assert_eq!((agenda.first_ns(), agenda.take_due(9)), (Some(10), None));
        assert_eq!((agenda.take_due(25), agenda.take_due(25)), (Some(0), Some(1)));
        assert_eq!(agenda.take_due(25), None);
        agenda.enter(0, 5);
        assert_eq!((agenda.take_due(30), agenda.take_due(30)), (Some(0), Some(2)));
        assert_eq!(agenda.first_ns(), None);
    }
}
