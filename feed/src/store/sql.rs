//! Feeds in a database, SQLite or PostgreSQL: one text for both.

use cmd_store::{Database, Step, StoreError, query, query_as};
use proto::feed::FeedRecord;

use super::Store;

/// The schema, step by step.
const STEPS: &[Step] = &[Step {
    version: 1,
    name: "feeds",
    // The key keeps a user's feeds side by side and in order: a page is one range of it.
    sql: "CREATE TABLE feeds (
              user_id BIGINT NOT NULL,
              id BIGINT NOT NULL,
              content TEXT NOT NULL,
              PRIMARY KEY (user_id, id)
          )",
}];
const CREATE: &str = "INSERT INTO feeds (user_id, id, content) VALUES ($1, $2, $3)
    ON CONFLICT (user_id, id) DO UPDATE SET content = excluded.content";
const LIST: &str = "SELECT id, content FROM feeds WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3";

/// A store of feeds in a database.
#[derive(Debug)]
pub struct Sql {
    database: Database,
}

impl Sql {
    /// The store in `database`, its schema brought up to date.
    ///
    /// # Errors
    /// See [`Database::migrate`].
    pub async fn open(database: Database) -> Result<Self, StoreError> {
        database.migrate("feed", STEPS).await?;
        Ok(Self { database })
    }
}

#[tonic::async_trait]
impl Store for Sql {
    async fn create(&self, record: FeedRecord) -> Result<(), StoreError> {
        let FeedRecord { id, user_id, content } = record;
        self.database.write(query(CREATE).bind(user_id).bind(id).bind(content)).await
    }

    async fn list(&self, user_id: i64, after_id: i64, limit: usize) -> Result<Vec<FeedRecord>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.database.read::<(i64, String)>(query_as(LIST).bind(user_id).bind(after_id).bind(limit)).await?;
        Ok(rows.into_iter().map(|(id, content)| FeedRecord { id, user_id, content }).collect())
    }
}
