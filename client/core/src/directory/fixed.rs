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
    shared: Arc<Mutex<BTreeMap<ServiceName, Followed>>>,
}

#[derive(Default)]
struct Followed {
    view: View,
    sinks: Vec<Arc<dyn Sink>>,
}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed").finish_non_exhaustive()
    }
}

impl Fixed {
    /// Sets the addresses of a service and tells its sinks, which must not call back. The addresses are not checked.
    pub fn set(&self, service: ServiceName, addrs: &[&str]) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = shared.entry(service).or_default();
        followed.view = View::of(addrs.iter().map(|addr| Endpoint::new(*addr)), followed.view.revision + 1);
        for sink in &followed.sinks {
            sink.apply(followed.view.clone());
        }
    }

    /// Gives `sink` the present view (an empty one if none was set) and every further one.
    pub fn watch(&self, service: ServiceName, sink: Arc<dyn Sink>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = shared.entry(service).or_default();
        sink.apply(followed.view.clone());
        followed.sinks.push(sink);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Default)]
    struct Views(Mutex<Vec<(i64, Vec<String>)>>);

    impl Sink for Views {
        fn apply(&self, view: View) {
            let addrs = view.endpoints.iter().map(|endpoint| endpoint.addr.clone()).collect();
            self.0.lock().unwrap().push((view.revision, addrs));
        }
    }

    #[test]
    fn sink_gets_the_present_view_and_every_further_one_sorted_and_without_doubles() {
        const FEED: ServiceName = ServiceName::new("feed");
        let fixed = Fixed::default();
        fixed.set(FEED, &["b:1"]);
        let views = Arc::new(Views::default());
        fixed.watch(FEED, views.clone());
        fixed.set(FEED, &["c:1", "a:1", "c:1"]);
        fixed.set(ServiceName::new("topic"), &["t:1"]);
        let expected = vec![(1, vec!["b:1".to_owned()]), (2, vec!["a:1".to_owned(), "c:1".to_owned()])];
        assert_eq!(*views.0.lock().unwrap(), expected);
    }
}
