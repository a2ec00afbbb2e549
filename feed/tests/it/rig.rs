//! The three stores, each of which can be opened again.

use std::{sync::Arc, time::Duration};

use cmd_store::{
    Config, Database, StoreUrl,
    testing::{Folder, Postgres},
};
use feed::store::{Memory, Sql, Store};
use futures_lite::future::block_on;
use proto::{feed::FeedRecord, shim::Shim};

/// One kind of store.
pub(crate) struct Kind {
    pub(crate) url: StoreUrl,
    memory: Arc<Memory>,
}

impl Kind {
    /// The store; called again, what another instance, or a restarted one, has.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        match self.database() {
            None => self.memory.clone(),
            Some(database) => Arc::new(Sql::open(database).await.unwrap()),
        }
    }

    pub(crate) fn database(&self) -> Option<Database> {
        // Generous: these machines do other things meanwhile.
        Database::new(&self.url, Config { timeout: Duration::from_secs(60), ..Config::default() }).unwrap()
    }
}

/// Runs `check` on each kind of store.
pub(crate) fn on_each(check: impl AsyncFn(&Kind)) {
    on_each_pair(async |kind, _| check(kind).await);
}

/// The same, with a second store of that kind beside it.
pub(crate) fn on_each_pair(check: impl AsyncFn(&Kind, &Kind)) {
    let postgres = Postgres::start();
    let folder = Folder::new();
    let shim = Shim::new(2).unwrap();
    let _entered = shim.enter();
    for pair in [
        [StoreUrl::Memory, StoreUrl::Memory],
        [folder.sqlite("odd %? #name.db"), folder.sqlite("other.db")],
        [postgres.database("app"), postgres.database("other")],
    ] {
        println!("{}", pair[0]);
        let [one, other] = pair.map(|url| Kind { url, memory: Arc::default() });
        block_on(check(&one, &other));
    }
}

pub(crate) fn feed(user_id: i64, id: i64, content: &str) -> FeedRecord {
    FeedRecord { id, user_id, content: content.into() }
}

pub(crate) async fn ids(store: &dyn Store, user: i64, after: i64, limit: usize) -> Vec<i64> {
    store.list(user, after, limit).await.unwrap().iter().map(|feed| feed.id).collect()
}
