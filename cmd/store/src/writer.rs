//! SQLite's one writer: what waits together is committed together.
//!
//! SQLite lets one transaction write at a time, and each waits for the disk. Many small ones would spend their time
//! waiting; so while one commit is on its way to the disk, the writes that arrive form the next (group commit).

use async_channel::{Receiver, Sender};
use sqlx::{Any, AnyConnection, AnyPool, Executor as _, any::AnyArguments, query::Query};
use tokio::sync::oneshot;

use crate::StoreError;

/// Writes in one commit at most.
const GROUP_MAX: usize = 256;
/// Writes that may wait; more are refused at once.
const QUEUE_MAX: usize = 1024;

/// A statement that writes.
pub(crate) type Statement = Query<'static, Any, AnyArguments>;

/// Hands writes to the task that commits them; the task ends with the last handle.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: Sender<Job>,
}

struct Job {
    statement: Statement,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Writer {
    /// Starts the task, on `pool`, which has one connection.
    pub(crate) fn start(pool: AnyPool) -> Self {
        let (queue, jobs) = async_channel::bounded(QUEUE_MAX);
        tokio::spawn(write(pool, jobs));
        Self { queue }
    }

    /// Returns when the write is on disk.
    pub(crate) async fn write(&self, statement: Statement) -> Result<(), StoreError> {
        let (done, outcome) = oneshot::channel();
        self.queue
            .try_send(Job { statement, done })
            .map_err(|_| StoreError::Unavailable(format!("{QUEUE_MAX} writes wait already")))?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer is gone".into())))
    }
}

async fn write(pool: AnyPool, jobs: Receiver<Job>) {
    while let Ok(first) = jobs.recv().await {
        let waiting = std::iter::once(first).chain(std::iter::from_fn(|| jobs.try_recv().ok()));
        // Whoever is gone was not answered, so nothing need be stored; and an overload shrinks by them.
        let (statements, done): (Vec<_>, Vec<_>) =
            waiting.take(GROUP_MAX).filter(|job| !job.done.is_closed()).map(|job| (job.statement, job.done)).unzip();
        if statements.is_empty() {
            continue;
        }
        let outcome = commit(&pool, statements).await.map_err(StoreError::from);
        for done in done {
            // A caller that left meanwhile does not learn it.
            let _ = done.send(outcome.clone());
        }
    }
}

/// All or nothing.
async fn commit(pool: &AnyPool, statements: Vec<Statement>) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let done = transact(&mut connection, statements).await;
    if done.is_err() {
        // Some errors make SQLite roll back by itself, some do not: a new connection begins with neither.
        connection.close_on_drop();
    }
    done
}

async fn transact(connection: &mut AnyConnection, statements: Vec<Statement>) -> Result<(), sqlx::Error> {
    // Takes the write lock first: a transaction that began as a reader could not wait for it.
    connection.execute("BEGIN IMMEDIATE").await?;
    for statement in statements {
        statement.execute(&mut *connection).await?;
    }
    connection.execute("COMMIT").await.map(drop)
}
