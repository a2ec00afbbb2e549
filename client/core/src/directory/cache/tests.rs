#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    thread,
    time::{Duration, Instant},
};

use super::*;

const FEED: ServiceName = ServiceName::new("feed");
const TOPIC: ServiceName = ServiceName::new("topic");

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cache-{}-{}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("instances.json")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Views(Mutex<Vec<Vec<String>>>);

impl Views {
    fn all(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }
}

impl Sink for Views {
    fn apply(&self, view: View) {
        self.0.lock().unwrap().push(view.endpoints.iter().map(|endpoint| endpoint.addr.clone()).collect());
    }
}

fn view(addrs: &[&str]) -> View {
    View::of(addrs.iter().map(|addr| Endpoint::new(*addr)), 7)
}

/// Waits until what is in the file is what `expected` says.
fn wait_for(path: &Path, service: &str, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let lists = read(path).unwrap_or_default();
        let addrs: Vec<_> =
            lists.get(service).into_iter().flat_map(|list| list.iter()).map(|e| e.addr.as_str()).collect();
        if addrs == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{service} is {addrs:?} in the file, not {expected:?}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn missing_file_is_an_empty_cache() {
    let folder = Folder::new();
    let views = Arc::new(Views::default());
    let _sink = Cache::open(&folder.file()).unwrap().keep(FEED, views.clone());
    assert!(views.all().is_empty());
}

#[test]
fn stored_views_are_given_first_after_a_restart() {
    let folder = Folder::new();
    let cache = Cache::open(&folder.file()).unwrap();
    let (feeds, topics) = (Arc::new(Views::default()), Arc::new(Views::default()));
    let feed = cache.keep(FEED, feeds.clone());
    let topic = cache.keep(TOPIC, topics);
    feed.apply(view(&["a:1", "b:1"]));
    topic.apply(view(&["t:1"]));
    assert_eq!(feeds.all(), [["a:1", "b:1"]]);
    wait_for(&folder.file(), "feed", &["a:1", "b:1"]);
    wait_for(&folder.file(), "topic", &["t:1"]);

    let views = Arc::new(Views::default());
    let feed = Cache::open(&folder.file()).unwrap().keep(FEED, views.clone());
    feed.apply(view(&["c:1"]));
    assert_eq!(views.all(), [vec!["a:1", "b:1"], vec!["c:1"]]);
    wait_for(&folder.file(), "feed", &["c:1"]);
    wait_for(&folder.file(), "topic", &["t:1"]);
}

#[test]
fn empty_view_is_passed_on_but_not_stored() {
    let folder = Folder::new();
    let views = Arc::new(Views::default());
    let sink = Cache::open(&folder.file()).unwrap().keep(FEED, views.clone());
    sink.apply(view(&["a:1"]));
    wait_for(&folder.file(), "feed", &["a:1"]);
    sink.apply(view(&[]));
    sink.apply(view(&["a:1"]));
    assert_eq!(views.all().len(), 3);
    wait_for(&folder.file(), "feed", &["a:1"]);
}

#[test]
fn last_of_many_views_is_what_the_file_has_and_no_temporary_file_stays() {
    let folder = Folder::new();
    let sink = Cache::open(&folder.file()).unwrap().keep(FEED, Arc::new(Views::default()));
    for port in 1..=500 {
        sink.apply(view(&[&format!("a:{port}")]));
    }
    wait_for(&folder.file(), "feed", &["a:500"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while folder.names() != ["instances.json"] {
        assert!(Instant::now() < deadline, "{:?}", folder.names());
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn broken_file_is_set_aside() {
    for broken in [&b"{\"services\": {\"feed\": [{\"ad"[..], b"\xff\xff", b"", b"[]"] {
        let folder = Folder::new();
        fs::write(folder.file(), broken).unwrap();
        let views = Arc::new(Views::default());
        let _sink = Cache::open(&folder.file()).unwrap().keep(FEED, views.clone());
        assert!(views.all().is_empty());
        assert_eq!(folder.names(), ["instances.json.broken"]);
    }
}

#[test]
fn bad_entries_of_a_good_file_are_left_out() {
    let folder = Folder::new();
    fs::write(folder.file(), r#"{"services":{"feed":[{"addr":"a"},{"addr":"b:1","weight":3}]}}"#).unwrap();
    let views = Arc::new(Views::default());
    let _sink = Cache::open(&folder.file()).unwrap().keep(FEED, views.clone());
    assert_eq!(views.all(), [["b:1"]]);
}

#[test]
fn unwritable_folder_stops_no_view() {
    let folder = Folder::new();
    let views = Arc::new(Views::default());
    let sink = Cache::open(&folder.0.join("missing/instances.json")).unwrap().keep(FEED, views.clone());
    sink.apply(view(&["a:1"]));
    sink.apply(view(&["b:1"]));
    assert_eq!(views.all(), [["a:1"], ["b:1"]]);
}
