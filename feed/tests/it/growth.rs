//! What a page and a write cost does not grow with what is stored.

use std::time::{Duration, Instant};

use cmd_store::{AssertSqlSafe, query};
use feed::store::Store;

use crate::rig::{Kind, feed, ids, on_each_pair};

/// Feeds of user 1: the long one.
const LONG: i64 = 100_000;
/// Feeds of 900 users more.
const OTHERS: i64 = 900_000;

/// A million feeds, put there by one statement each where the store has them.
async fn fill(kind: &Kind, store: &dyn Store) {
    let counted = |to: i64| format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to})");
    let content = "x".repeat(100);
    let Some(database) = kind.database() else {
        for id in 1..=LONG {
            store.create(feed(1, id, &content)).await.unwrap();
        }
        for number in 0..OTHERS {
            store.create(feed(number % 900 + 1000, number + 1, &content)).await.unwrap();
        }
        return;
    };
    // User and id are given types: PostgreSQL counts in 32 bits otherwise.
    let long = format!("INSERT INTO feeds {} SELECT 1, i, '{content}' FROM n", counted(LONG));
    let others = format!("INSERT INTO feeds {} SELECT i % 900 + 1000, i, '{content}' FROM n", counted(OTHERS));
    for statement in [long, others] {
        database.write(query(AssertSqlSafe(statement))).await.unwrap();
    }
}

/// The median times of one thing done here and there in turn: whatever else the machine does, it does to both.
async fn in_turn<T>(here: impl AsyncFn(i64) -> T, there: impl AsyncFn(i64) -> T) -> (Duration, Duration) {
    let (mut heres, mut theres) = (Vec::new(), Vec::new());
    for number in 1..=201 {
        let started = Instant::now();
        here(number).await;
        heres.push(started.elapsed());
        let started = Instant::now();
        there(number).await;
        theres.push(started.elapsed());
    }
    heres.sort();
    theres.sort();
    (heres[100], theres[100])
}

#[test]
fn pages_and_writes_cost_the_same_among_a_million_feeds() {
    on_each_pair(async |empty, full| {
        let (small, large) = (empty.open().await, full.open().await);
        for store in [&small, &large] {
            for id in 1..=301 {
                store.create(feed(5, id, &"x".repeat(100))).await.unwrap();
            }
        }
        fill(full, &*large).await;
        let page = async |store: &dyn Store, user, after| assert_eq!(ids(store, user, after, 100).await.len(), 100);
        let read = in_turn(async |n| page(&*small, 5, n).await, async |n| page(&*large, 5, n).await).await;
        let write = async |store: &dyn Store, n| store.create(feed(6, n, "a feed")).await.unwrap();
        let written = in_turn(async |n| write(&*small, n).await, async |n| write(&*large, n).await).await;
        let (first, last) =
            in_turn(async |n| page(&*large, 1, n).await, async |n| page(&*large, 1, LONG - 400 + n).await).await;
        println!("{}: page {:?} when nearly empty, {:?} among a million", full.url, read.0, read.1);
        println!("{}: write {:?} when nearly empty, {:?} among a million", full.url, written.0, written.1);
        println!("{}: of {LONG} feeds the first pages {first:?}, the last {last:?}", full.url);
        assert_eq!(ids(&*large, 1, LONG - 2, 100).await, [LONG - 1, LONG]);
        assert!(read.1 <= 2 * read.0, "reads: {read:?}");
        assert!(written.1 <= 2 * written.0, "writes: {written:?}");
        assert!(last <= 2 * first, "pages: {first:?}, {last:?}");
    });
}
