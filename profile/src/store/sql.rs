//! Profiles in a database, SQLite or PostgreSQL: one text for both.

use cmd_store::{Database, Step, StoreError, query, query_as};
use proto::profile::CreateProfileRequest;

use super::Store;

/// The schema, step by step.
const STEPS: &[Step] = &[Step {
    version: 1,
    name: "profiles",
    sql: "CREATE TABLE profiles (
              user_id BIGINT PRIMARY KEY,
              name TEXT NOT NULL,
              company TEXT NOT NULL,
              title TEXT NOT NULL
          )",
}];
const CREATE: &str = "INSERT INTO profiles (user_id, name, company, title) VALUES ($1, $2, $3, $4)
    ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, company = excluded.company, title = excluded.title";
const GET: &str = "SELECT name, company, title FROM profiles WHERE user_id = $1";

/// A store of profiles in a database.
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
        database.migrate("profile", STEPS).await?;
        Ok(Self { database })
    }
}

#[tonic::async_trait]
impl Store for Sql {
    async fn create(&self, record: CreateProfileRequest) -> Result<(), StoreError> {
        let CreateProfileRequest { user_id, name, company, title } = record;
        self.database.write(query(CREATE).bind(user_id).bind(name).bind(company).bind(title)).await
    }

    async fn get(&self, user_id: i64) -> Result<Option<CreateProfileRequest>, StoreError> {
        let rows = self.database.read::<(String, String, String)>(query_as(GET).bind(user_id)).await?;
        let found = rows.into_iter().next();
        Ok(found.map(|(name, company, title)| CreateProfileRequest { user_id, name, company, title }))
    }
}
