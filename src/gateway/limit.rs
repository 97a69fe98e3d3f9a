//! How many sockets are open, over all transports together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts open sockets and refuses those beyond the limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections {
    open: Arc<AtomicUsize>,
    max: usize,
}

/// A place among the open sockets; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<AtomicUsize>);

impl Connections {
    /// None open, `max` allowed.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::default(), max }
    }

    /// A place for one more socket; `None`: there are as many as may be.
    pub fn take(&self) -> Option<ConnectionPermit> {
        let permit = ConnectionPermit(self.open.clone());
        (permit.0.fetch_add(1, Ordering::Relaxed) < self.max).then_some(permit)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_socket_has_gone() {
        let connections = Connections::new(1);
        let first = connections.take().expect("there is room");
        assert!(connections.take().is_none());
        assert_eq!(connections.open(), 1);
        drop(first);
        assert!(connections.take().is_some());
    }
}
