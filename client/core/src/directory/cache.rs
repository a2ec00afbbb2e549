//! The last good lists in a file, for a gateway that must start while its registry is away.
//!
//! One JSON object: `{"feed": [{"addr": "10.0.0.1:8082"}], ...}`. Written beside and renamed, so that a reader sees the old list
//! or the new one. An empty list is not written: a wiped registry must not take what could be served from.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_std::task;

use super::{Endpoint, ServiceName, Sink, View, key};

/// A handle on the file; shared by the watchers of all services.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    lists: Mutex<BTreeMap<String, Vec<Endpoint>>>,
    /// Held while writing, so that an older list never overwrites a newer one.
    writing: Mutex<()>,
}

impl Cache {
    /// Reads the file. A missing one is an empty cache; one that cannot be understood is set aside as `<file>.broken`.
    ///
    /// # Errors
    /// The file exists and cannot be read, or its folder does not exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        let lists = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).or_else(|error| {
                let aside = path.with_extension("broken");
                log::warn!("{} is not a discovery cache ({error}); set aside as {}", path.display(), aside.display());
                std::fs::rename(path, aside).map(|()| BTreeMap::new())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                    return Err(io::Error::new(error.kind(), format!("no folder {}", folder.display())));
                }
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let shared = Shared { path: path.into(), lists: Mutex::new(lists), writing: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A sink that first gives `inner` the stored list, then keeps every further one in the file.
    #[must_use]
    pub fn keep(&self, service: ServiceName, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        let stored = self.lists().get(service.as_str()).cloned().unwrap_or_default();
        let mut endpoints: Vec<_> =
            stored.into_iter().filter(|endpoint| key::check_addr(&endpoint.addr).is_ok()).collect();
        endpoints.sort_by(|a, b| a.addr.cmp(&b.addr));
        endpoints.dedup_by(|a, b| a.addr == b.addr);
        if !endpoints.is_empty() {
            log::info!("{} has {} instances in {}", service.as_str(), endpoints.len(), self.shared.path.display());
            inner.apply(View { endpoints: endpoints.into(), revision: 0 });
        }
        Arc::new(Keeping { cache: self.clone(), service, inner })
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Endpoint>>> {
        self.shared.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is known now.
    fn write(&self) {
        let _writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let lists = self.lists().clone();
        let path = &self.shared.path;
        let beside = path.with_extension("tmp");
        let written = serde_json::to_vec_pretty(&lists)
            .map_err(io::Error::other)
            .and_then(|bytes| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = written {
            log::warn!("cannot write {}: {error}", path.display());
        }
    }
}

struct Keeping {
    cache: Cache,
    service: ServiceName,
    inner: Arc<dyn Sink>,
}

impl Sink for Keeping {
    fn apply(&self, view: View) {
        if !view.endpoints.is_empty() {
            self.cache.lists().insert(self.service.as_str().to_owned(), view.endpoints.to_vec());
            let cache = self.cache.clone();
            task::spawn_blocking(move || cache.write());
        }
        self.inner.apply(view);
    }

    fn confirmed(&self) {
        self.inner.confirmed();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FEED: ServiceName = ServiceName::new("feed");

    #[derive(Default)]
    struct Seen(Mutex<Vec<View>>);

    impl Sink for Seen {
        fn apply(&self, view: View) {
            self.0.lock().unwrap().push(view);
        }
    }

    fn view(addrs: &[&str]) -> View {
        View { endpoints: addrs.iter().map(|addr| Endpoint::new(*addr)).collect(), revision: 7 }
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("discovery-cache-{}-{name}.json", std::process::id()))
    }

    #[test]
    fn list_is_given_again_after_a_restart_and_an_empty_one_takes_nothing() {
        let path = file("restart");
        let cache = Cache::open(&path).unwrap();
        let seen = Arc::new(Seen::default());
        let sink = cache.keep(FEED, Arc::<Seen>::clone(&seen));
        assert!(seen.0.lock().unwrap().is_empty(), "nothing stored yet");
        sink.apply(view(&["b:1", "a:1"]));
        sink.apply(view(&[]));
        cache.write();

        let seen = Arc::new(Seen::default());
        let _sink = Cache::open(&path).unwrap().keep(FEED, Arc::<Seen>::clone(&seen));
        let expected = View { revision: 0, ..view(&["a:1", "b:1"]) };
        assert_eq!(*seen.0.lock().unwrap(), [expected]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn broken_file_is_set_aside() {
        let path = file("broken");
        std::fs::write(&path, "{ not json").unwrap();
        assert!(Cache::open(&path).is_ok());
        assert!(!path.exists());
        std::fs::remove_file(path.with_extension("broken")).unwrap();
    }

    #[test]
    fn missing_folder_is_an_error() {
        assert!(Cache::open(&file("folder").join("cache.json")).is_err());
    }
}
