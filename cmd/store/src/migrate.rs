//! Brings the schema up to date: ordered steps, each once, however many instances start together.

use std::{fs::File, path::PathBuf};

use sqlx::{
    Connection as _, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::{StoreError, StoreUrl, database::Direct};

/// One change of the schema. What was released is never edited: the next change is another step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its place in the order, from 1.
    pub version: i64,
    /// What it does, in a few words.
    pub name: &'static str,
    /// The statements, in SQL that both engines take.
    pub sql: &'static str,
}

/// Runs the steps of `service` that the database has not seen.
///
/// The steps already done are kept in a table of the service's own, so that services may share a database. PostgreSQL
/// holds an advisory lock meanwhile; for SQLite, whose driver has none, it is a lock on a file beside the database.
pub(crate) async fn run(direct: &Direct, service: &'static str, steps: &'static [Step]) -> Result<(), StoreError> {
    let migrations = steps.iter().map(|step| {
        Migration::new(step.version, step.name.into(), MigrationType::Simple, step.sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(format!("{service}_migrations"));
    let lock = match &direct.url {
        StoreUrl::Sqlite(path) => Some(locked(path.clone()).await?),
        StoreUrl::Memory | StoreUrl::Postgres(_) => None,
    };
    let mut connection = direct.connect().await?;
    let done = migrator.run(&mut connection).await;
    drop(lock);
    // It has done its work, whether it can say goodbye or not.
    let _ = connection.close().await;
    Ok(done?)
}

/// An exclusive lock on `PATH.lock`, until it is dropped or the process ends.
async fn locked(path: PathBuf) -> Result<File, StoreError> {
    let mut name = path.into_os_string();
    name.push(".lock");
    let taken = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).append(true).open(&name)?;
        file.lock()?;
        Ok(file)
    });
    let taken = taken.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    taken.map_err(|error: std::io::Error| StoreError::Unusable(format!("its lock file: {error}")))
}
