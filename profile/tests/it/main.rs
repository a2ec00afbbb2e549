//! All stores of profiles, held to one suite: memory, a real SQLite file, a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;

use cmd_store::{
    Config, Database, StoreUrl,
    testing::{Folder, Postgres},
};
use futures_lite::future::block_on;
use profile::{
    TEXT_BYTES_MAX,
    store::{Memory, Sql, Store},
};
use proto::{profile::CreateProfileRequest, shim::Shim};

/// Runs `check` on each kind of store; called again, its argument gives what another instance, or a restarted one, has.
fn on_each(check: impl AsyncFn(&dyn Fn() -> Arc<dyn Store>)) {
    let postgres = Postgres::start();
    let folder = Folder::new();
    let shim = Shim::new(2).unwrap();
    let _entered = shim.enter();
    let memory: Arc<dyn Store> = Arc::new(Memory::default());
    for url in [StoreUrl::Memory, folder.sqlite("profiles.db"), postgres.database("app")] {
        println!("{url}");
        block_on(check(&|| match Database::new(&url, Config::default()).unwrap() {
            None => Arc::clone(&memory),
            Some(database) => Arc::new(block_on(Sql::open(database)).unwrap()),
        }));
    }
}

fn record(user_id: i64, text: &str) -> CreateProfileRequest {
    CreateProfileRequest {
        user_id,
        name: text.into(),
        company: format!("company of {text}").chars().take(100).collect(),
        title: format!("title of {text}").chars().take(100).collect(),
    }
}

#[test]
fn what_is_created_is_there_whole_also_for_other_instances_and_after_a_restart() {
    on_each(async |open| {
        let store = open();
        let long = "\u{1f600}".repeat(TEXT_BYTES_MAX / 4);
        let texts = ["", "'; DROP TABLE profiles; -- $1", "n\u{e9}w \u{4f60}\u{597d} e\u{301}\u{1}\u{10ffff}", &long];
        for (id, text) in (i64::MAX - 3..=i64::MAX).zip(texts) {
            store.create(record(id, text)).await.unwrap();
        }
        for (id, text) in (i64::MAX - 3..=i64::MAX).zip(texts) {
            assert_eq!(store.get(id).await.unwrap(), Some(record(id, text)));
        }
        let other = open();
        drop(store);
        assert_eq!(other.get(i64::MAX).await.unwrap(), Some(record(i64::MAX, &long)));
        assert_eq!(other.get(1).await.unwrap(), None);
    });
}

#[test]
fn the_same_id_again_replaces_all_of_it() {
    on_each(async |open| {
        let store = open();
        store.create(record(1, "old")).await.unwrap();
        store.create(record(2, "another")).await.unwrap();
        store.create(CreateProfileRequest { user_id: 1, ..CreateProfileRequest::default() }).await.unwrap();
        assert_eq!(
            store.get(1).await.unwrap(),
            Some(CreateProfileRequest { user_id: 1, ..CreateProfileRequest::default() })
        );
        assert_eq!(store.get(2).await.unwrap(), Some(record(2, "another")));
    });
}
