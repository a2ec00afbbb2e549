//! Whether the database answers: asked once a second, so that calls need not find out one by one, each by waiting.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use sqlx::AnyConnection;
use tokio::time::{sleep, timeout};

use crate::{StoreError, database::Direct};

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(1);

/// What is known of the database.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Why it cannot be used, if so.
    trouble: Mutex<Option<String>>,
}

impl Health {
    /// Fails at once while the database is known not to answer.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => Err(StoreError::Unavailable(why.clone())),
        }
    }

    fn learn(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &trouble) {
            (None, Some(why)) => log::error!("the store does not answer: {why}"),
            (Some(_), None) => log::info!("the store answers again"),
            _ => {}
        }
        *known = trouble;
    }
}

/// Starts asking, on a connection of its own; ends when nobody holds the result any more.
pub(crate) fn start(direct: Direct, limit: Duration) -> Arc<Health> {
    let health = Arc::new(Health::default());
    tokio::spawn(watch(Arc::downgrade(&health), direct, limit));
    health
}

async fn watch(health: Weak<Health>, direct: Direct, limit: Duration) {
    let mut connection = None;
    loop {
        sleep(EVERY).await;
        let answer = timeout(limit, ask(&direct, connection.take())).await;
        let Some(health) = health.upgrade() else { return };
        health.learn(match answer {
            Ok(Ok(answered)) => {
                connection = Some(answered);
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {limit:?}")),
        });
    }
}

/// Gives the connection back when it answered.
async fn ask(direct: &Direct, connection: Option<AnyConnection>) -> Result<AnyConnection, sqlx::Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => direct.connect().await?,
    };
    sqlx::query("SELECT 1").execute(&mut connection).await?;
    Ok(connection)
}
