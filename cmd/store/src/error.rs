//! Why a store could not do as asked, and the one place where a database's errors become that.

use sqlx::error::ErrorKind;
use tonic::Status;

/// Why a store could not do as asked; never the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A bound of the store is reached: making room, or a larger bound, helps; trying again does not.
    #[error("the store is full: {0}")]
    Full(String),
    /// It cannot be reached, is too slow, or cannot write now. A write may have happened.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It can never do this: a file that is no database, a schema of a newer release, a flaw of ours.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) if is_lasting(cause.code().as_deref(), &cause.kind()) => {
                Self::Unusable(error.to_string())
            }
            sqlx::Error::Database(_)
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            _ => Self::Unusable(error.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::resource_exhausted(error.to_string()),
            // What the database said names hosts and files: it is for the log, not for callers.
            StoreError::Unavailable(_) => Self::unavailable("the store does not answer"),
            StoreError::Unusable(_) => Self::internal("the store cannot be used"),
        }
    }
}

/// Whether trying again later cannot help.
fn is_lasting(code: Option<&str>, kind: &ErrorKind) -> bool {
    if !matches!(kind, ErrorKind::Other) {
        return true; // a constraint of ours is broken
    }
    match code {
        // SQLite's result codes: perm, readonly, cannot open, not a database.
        Some("3" | "8" | "14" | "26") => true,
        // SQLSTATE classes: 22 data exception, 42 syntax error or access rule violation. (Not 28, wrong password, and not
        // 3D, no such database: whoever sets up the server may be about to mend that.)
        Some(code) if code.len() == 5 => code.starts_with("22") || code.starts_with("42"),
        _ => false,
    }
}
