//! Topics in a database, SQLite or PostgreSQL: one text for both.

use cmd_store::{Database, Step, StoreError, query, query_as};
use proto::topic::CreateTopicRequest;

use super::Store;

/// The schema, step by step.
const STEPS: &[Step] = &[Step {
    version: 1,
    name: "topics",
    sql: "CREATE TABLE topics (
              topic_id BIGINT PRIMARY KEY,
              subject TEXT NOT NULL,
              content TEXT NOT NULL
          )",
}];
const CREATE: &str = "INSERT INTO topics (topic_id, subject, content) VALUES ($1, $2, $3)
    ON CONFLICT (topic_id) DO UPDATE SET subject = excluded.subject, content = excluded.content";
const GET: &str = "SELECT subject, content FROM topics WHERE topic_id = $1";

/// A store of topics in a database.
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
        database.migrate("topic", STEPS).await?;
        Ok(Self { database })
    }
}

#[tonic::async_trait]
impl Store for Sql {
    async fn create(&self, record: CreateTopicRequest) -> Result<(), StoreError> {
        let CreateTopicRequest { topic_id, subject, content } = record;
        self.database.write(query(CREATE).bind(topic_id).bind(subject).bind(content)).await
    }

    async fn get(&self, topic_id: i64) -> Result<Option<CreateTopicRequest>, StoreError> {
        let rows = self.database.read::<(String, String)>(query_as(GET).bind(topic_id)).await?;
        let found = rows.into_iter().next();
        Ok(found.map(|(subject, content)| CreateTopicRequest { topic_id, subject, content }))
    }
}
