//! What every store of feeds does.

use std::sync::Arc;

use feed::CONTENT_BYTES_MAX;

use crate::rig::{feed, ids, on_each};

#[test]
fn feeds_come_in_ascending_id_page_by_page() {
    on_each(async |kind| {
        let store = kind.open().await;
        for id in [5, 1, i64::MAX, 3] {
            store.create(feed(1, id, "x")).await.unwrap();
        }
        store.create(feed(2, 2, "another user's")).await.unwrap();
        store.create(feed(i64::MAX, 1, "the last user's")).await.unwrap();
        assert_eq!(ids(&*store, 1, 0, 10).await, [1, 3, 5, i64::MAX]);
        assert_eq!(ids(&*store, 1, 0, 2).await, [1, 3]);
        assert_eq!(ids(&*store, 1, 3, 2).await, [5, i64::MAX]);
        assert_eq!(ids(&*store, 1, i64::MAX, 2).await, [0; 0]);
        assert_eq!(ids(&*store, 1, 0, 0).await, [0; 0]);
        assert_eq!(ids(&*store, i64::MAX, 0, 2).await, [1]);
        assert_eq!(ids(&*store, 3, 0, 2).await, [0; 0]);
        assert_eq!(store.list(2, 0, 9).await.unwrap(), [feed(2, 2, "another user's")]);
    });
}

#[test]
fn the_same_id_again_replaces() {
    on_each(async |kind| {
        let store = kind.open().await;
        store.create(feed(1, 1, "old")).await.unwrap();
        store.create(feed(1, 1, "new")).await.unwrap();
        store.create(feed(2, 1, "another user's")).await.unwrap();
        assert_eq!(store.list(1, 0, 10).await.unwrap(), [feed(1, 1, "new")]);
    });
}

#[test]
fn every_text_comes_back_as_it_went_in() {
    on_each(async |kind| {
        let store = kind.open().await;
        let texts = [
            String::new(),
            " \t\r\n".into(),
            "'; DROP TABLE feeds; -- $1 ? :x %s \\".into(),
            "n\u{e9}w \u{4f60}\u{597d} \u{1f600} e\u{301} \u{202e}rtl \u{feff}\u{10ffff}\u{1}\u{7f}".into(),
            "\u{1f600}".repeat(CONTENT_BYTES_MAX / 4),
            "x".repeat(CONTENT_BYTES_MAX),
        ];
        for (id, text) in (1..).zip(&texts) {
            store.create(feed(7, id, text)).await.unwrap();
        }
        let kept: Vec<_> = store.list(7, 0, 10).await.unwrap().into_iter().map(|feed| feed.content).collect();
        assert_eq!(kept, texts);
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    on_each(async |kind| {
        let store = kind.open().await;
        for id in 1..=50 {
            store.create(feed(1, id, "x")).await.unwrap();
        }
        drop(store);
        let store = kind.open().await;
        assert_eq!(ids(&*store, 1, 0, 100).await, (1..=50).collect::<Vec<_>>());
    });
}

#[test]
fn many_instances_start_and_write_together() {
    on_each(async |kind| {
        // Opened at once on an empty database: one of them brings its schema up to date, none fails.
        let stores = join((0..6).map(|_| Box::pin(kind.open())).collect()).await;
        let writes = stores.iter().zip(1..).flat_map(|(store, instance)| {
            (1..=100).map(move |number| {
                let store = Arc::clone(store);
                Box::pin(async move {
                    store.create(feed(1, number * 10 + instance, "own")).await.unwrap();
                    store.create(feed(2, number, &format!("by {instance}"))).await.unwrap();
                })
            })
        });
        join(writes.collect()).await;
        assert_eq!(ids(&*stores[0], 1, 0, 1000).await.len(), 600, "none is lost");
        let shared = stores[5].list(2, 0, 1000).await.unwrap();
        assert_eq!(shared.len(), 100, "each is there once");
        assert!(shared.iter().all(|feed| feed.content.starts_with("by ")), "and whole");
    });
}

/// All of them, concurrently.
async fn join<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = std::pin::Pin::new(future).poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
