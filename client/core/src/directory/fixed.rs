//! A directory that changes only when told: for tests, and for running without a registry.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Endpoint, ServiceName, Sink, View};

/// Addresses by service, and who follows them. Cheap to clone; clones share the lists.
#[derive(Clone, Default)]
pub struct Fixed {
    shared: Arc<Mutex<BTreeMap<ServiceName, Entry>>>,
}

#[derive(Default)]
struct Entry {
    view: View,
    sinks: Vec<Arc<dyn Sink>>,
}

impl Fixed {
    /// Sets the addresses of a service and tells its sinks.
    pub fn set(&self, service: ServiceName, addrs: &[&str]) {
        let mut addrs = addrs.to_vec();
        addrs.sort_unstable();
        addrs.dedup();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shared.entry(service).or_default();
        entry.view.revision += 1;
        entry.view.endpoints = addrs.into_iter().map(Endpoint::new).collect();
        for sink in &entry.sinks {
            sink.apply(entry.view.clone());
        }
    }

    /// Gives `sink` the present view and every further one.
    pub fn watch(&self, service: ServiceName, sink: Arc<dyn Sink>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shared.entry(service).or_default();
        sink.apply(entry.view.clone());
        entry.sinks.push(sink);
    }
}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed").finish_non_exhaustive()
    }
}
