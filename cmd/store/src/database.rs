//! A handle to the database: reads, writes, the schema, and whether it answers.

use std::{fmt, sync::Arc};

use sqlx::{
    Any, AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions as _, Executor as _, FromRow,
    any::{AnyArguments, AnyConnectOptions, AnyPoolOptions, AnyRow},
    query::{Query, QueryAs},
};
use tokio::time::timeout;

use crate::{Config, Step, StoreError, StoreUrl, health, health::Health, migrate, writer::Writer};

/// A statement that reads rows of `T`.
pub type Read<T> = QueryAs<'static, Any, T, AnyArguments>;
/// A statement that writes.
pub type Write = Query<'static, Any, AnyArguments>;

/// A database; cheap to clone. It connects when it is needed, and again whenever a connection broke.
#[derive(Clone)]
pub struct Database {
    direct: Direct,
    config: Config,
    reads: AnyPool,
    writes: Writes,
    health: Arc<Health>,
}

/// How to connect past the pool, which hides the reason when it cannot.
#[derive(Clone)]
pub(crate) struct Direct {
    pub(crate) url: StoreUrl,
    options: AnyConnectOptions,
    set_up: Arc<[String]>,
}

#[derive(Clone)]
enum Writes {
    /// PostgreSQL commits concurrent transactions together by itself.
    Pool(AnyPool),
    /// SQLite does not.
    Grouped(Writer),
}

impl Database {
    /// A handle to the database at `url`; `None` for [`StoreUrl::Memory`], which is none.
    ///
    /// # Errors
    /// The driver does not take the URL.
    ///
    /// # Panics
    /// The calling thread is not inside a tokio runtime.
    pub fn new(url: &StoreUrl, config: Config) -> Result<Option<Self>, StoreError> {
        sqlx::any::install_default_drivers();
        let Some(options) = url.options() else { return Ok(None) };
        let direct = Direct {
            url: url.clone(),
            // What fails is logged where it is handled.
            options: options?.disable_statement_logging(),
            set_up: set_up(url, config),
        };
        let pool = |connections: u32| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(config.timeout)
                // A file does not go away; a server may have been restarted.
                .test_before_acquire(matches!(url, StoreUrl::Postgres(_)))
                .after_connect({
                    let direct = direct.clone();
                    move |connection, _| {
                        let direct = direct.clone();
                        Box::pin(async move { direct.set_up(connection).await })
                    }
                })
                .connect_lazy_with(direct.options.clone())
        };
        let reads = pool(config.connections);
        let writes = match url {
            StoreUrl::Sqlite(_) => Writes::Grouped(Writer::start(pool(1))),
            StoreUrl::Memory | StoreUrl::Postgres(_) => Writes::Pool(reads.clone()),
        };
        let health = health::start(direct.clone(), config.timeout);
        Ok(Some(Self { direct, config, reads, writes, health }))
    }

    /// Brings the schema of `service` up to date; safe to call from many instances at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: worth trying again. [`StoreError::Unusable`]: not so, such as a file that is no
    /// database, or a schema that a newer release made.
    pub async fn migrate(&self, service: &'static str, steps: &'static [Step]) -> Result<(), StoreError> {
        migrate::run(&self.direct, service, steps).await
    }

    /// Returns when the write is on disk.
    ///
    /// # Errors
    /// See [`StoreError`]. Except for [`StoreError::Full`], the write may have happened.
    pub async fn write(&self, statement: Write) -> Result<(), StoreError> {
        self.within(async {
            match &self.writes {
                Writes::Pool(pool) => Ok(statement.execute(pool).await.map(drop)?),
                Writes::Grouped(writer) => writer.write(statement).await,
            }
        })
        .await
    }

    /// The rows that a statement reads.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read<T>(&self, statement: Read<T>) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> FromRow<'r, AnyRow> + Send + Unpin,
    {
        self.within(async { Ok(statement.fetch_all(&self.reads).await?) }).await
    }

    /// Where it is, or why it cannot be used now.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn ready(&self) -> Result<String, String> {
        self.health.check().map(|()| self.direct.url.to_string()).map_err(|error| error.to_string())
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.health.check()?;
        let limit = self.config.timeout;
        timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {limit:?}"))))
    }
}

impl Direct {
    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        self.set_up(&mut connection).await?;
        Ok(connection)
    }

    async fn set_up(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        for statement in &*self.set_up {
            connection.execute(AssertSqlSafe(statement.clone())).await?;
        }
        Ok(())
    }
}

/// What each connection is told first.
fn set_up(url: &StoreUrl, config: Config) -> Arc<[String]> {
    let milliseconds = config.timeout.as_millis();
    match url {
        StoreUrl::Memory => Arc::default(),
        StoreUrl::Sqlite(_) => Arc::new([
            // How long to wait for another process that writes to the file.
            format!("PRAGMA busy_timeout = {milliseconds}"),
            // Readers and the writer do not wait for each other.
            "PRAGMA journal_mode = WAL".into(),
            // A commit returns when it is on disk.
            "PRAGMA synchronous = FULL".into(),
        ]),
        StoreUrl::Postgres(_) => Arc::new([format!("SET statement_timeout = {milliseconds}")]),
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("url", &self.direct.url).field("config", &self.config).finish_non_exhaustive()
    }
}
