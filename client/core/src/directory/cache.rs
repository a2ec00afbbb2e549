//! The last good lists in a file, for a gateway that must start while its registry is away.
//!
//! The file is a convenience, never a truth: it holds addresses that may be gone, and who connects to them finds out.
//! An empty list does not replace one that is not: a wiped registry must not take the way back with it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_std::task;
use serde::{Deserialize, Serialize};

use super::{Endpoint, ServiceName, Sink, View, key::Record, watch::MAX_ENTRIES};

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A handle on the file; shared by the watchers of all services. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

/// As a [`View`] has it.
type List = Arc<[Arc<Endpoint>]>;

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Never holds an empty list.
    lists: BTreeMap<String, List>,
    /// The file is behind `lists`.
    dirty: bool,
    /// Somebody is writing, and will look at `dirty` again when done.
    writing: bool,
    /// The last write failed, and this was said.
    failed: bool,
}

/// The file.
#[derive(Deserialize, Serialize)]
struct File {
    services: BTreeMap<String, Vec<Record>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Cache {
    /// Reads the file if it is there. A missing file is an empty cache; a broken one is set aside, as `<name>.broken`,
    /// with a warning.
    ///
    /// # Errors
    /// The file is there and cannot be read, or cannot be set aside.
    pub fn open(path: &Path) -> io::Result<Self> {
        let lists = match read(path) {
            Ok(lists) => lists,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = beside(path, ".broken");
                log::warn!("{}: {error}; set aside as {}", path.display(), aside.display());
                fs::rename(path, aside)?;
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let state = Mutex::new(State { lists, ..State::default() });
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), state }) })
    }

    /// A sink that first gives `inner` the stored view, if there is one, and then passes every further view on and
    /// writes it to the file, off the executor.
    #[must_use]
    pub fn keep(&self, service: ServiceName, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        let stored = self.shared.state().lists.get(service.as_str()).cloned();
        if let Some(endpoints) = stored {
            log::info!(
                "list of {}: {} instances from {}",
                service.as_str(),
                endpoints.len(),
                self.shared.path.display()
            );
            inner.apply(View { endpoints, revision: 0 });
        }
        Arc::new(Keeper { shared: Arc::clone(&self.shared), service, inner })
    }
}

struct Keeper {
    shared: Arc<Shared>,
    service: ServiceName,
    inner: Arc<dyn Sink>,
}

impl Sink for Keeper {
    fn apply(&self, view: View) {
        self.shared.store(self.service.as_str(), &view.endpoints);
        self.inner.apply(view);
    }

    fn confirmed(&self) {
        self.inner.confirmed();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a list in and sees to it that somebody writes.
    fn store(self: &Arc<Self>, service: &str, endpoints: &List) {
        let mut state = self.state();
        if endpoints.is_empty() || state.lists.get(service) == Some(endpoints) {
            return;
        }
        state.lists.insert(service.to_owned(), Arc::clone(endpoints));
        state.dirty = true;
        if !std::mem::replace(&mut state.writing, true) {
            let shared = Arc::clone(self);
            task::spawn_blocking(move || shared.write_until_clean());
        }
    }

    /// Views that come while a write is under way are covered by one more write, however many they are.
    fn write_until_clean(&self) {
        loop {
            let lists = {
                let mut state = self.state();
                if !std::mem::take(&mut state.dirty) {
                    state.writing = false;
                    return;
                }
                state.lists.clone()
            };
            let written = write(&self.path, &lists);
            let failed_before = std::mem::replace(&mut self.state().failed, written.is_err());
            if let Err(error) = written
                && !failed_before
            {
                log::warn!("cannot keep the lists in {}: {error}", self.path.display());
            }
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, List>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let file: File =
        serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let list = |records: Vec<Record>| {
        let endpoints = records.into_iter().take(MAX_ENTRIES).filter_map(|record| Endpoint::try_from(record).ok());
        View::of(endpoints, 0).endpoints
    };
    let lists = file.services.into_iter().map(|(service, records)| (service, list(records)));
    Ok(lists.filter(|(_, list)| !list.is_empty()).collect())
}

/// Writes a file beside and renames it, so that no reader and no crash ever meets half a list.
fn write(path: &Path, lists: &BTreeMap<String, List>) -> io::Result<()> {
    let records = |list: &List| list.iter().map(|endpoint| Record::from(&**endpoint)).collect();
    let services = lists.iter().map(|(service, list)| (service.clone(), records(list))).collect();
    let bytes = serde_json::to_vec_pretty(&File { services })?;
    let temporary = beside(path, &format!(".{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
