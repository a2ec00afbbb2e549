//! The store that `-store.url` names, opened before its service answers anything.

use std::{sync::Arc, time::Duration};

use cmd_store::{Config, Database, StoreError};

use crate::{
    exit::Exit,
    flags::OwnFlags,
    lifecycle::{Process, stopped_within},
};

/// The wait between two tries to open a store that does not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// What `memory` makes when no database is asked for, else what `open` makes of the database, once it answers; `None`
/// when the process is asked to stop before that.
///
/// # Errors
/// The store can never be used, such as a file that is no database.
pub(super) async fn open<S: ?Sized>(
    flags: &OwnFlags,
    process: &Process,
    memory: impl FnOnce() -> Arc<S>,
    open: impl AsyncFn(Database) -> Result<Arc<S>, StoreError>,
) -> Result<Option<Arc<S>>, Exit> {
    let config = Config { connections: flags.store_conns, timeout: flags.store_timeout.0 };
    let failed = |error: &StoreError| Exit::Failed(format!("-store.url {}: {error}", flags.store_url));
    let Some(database) = Database::new(&flags.store_url, config).map_err(|error| failed(&error))? else {
        return Ok(Some(memory()));
    };
    let shown = database.clone();
    process.readiness.add("store", move || shown.ready());
    let mut told = false;
    loop {
        match open(database.clone()).await {
            Ok(store) => return Ok(Some(store)),
            Err(error @ StoreError::Unusable(_)) => return Err(failed(&error)),
            Err(error) if !told => log::warn!("-store.url {}: {error}; trying on", flags.store_url),
            Err(_) => {}
        }
        told = true;
        if stopped_within(&process.stop, AGAIN).await {
            return Ok(None);
        }
    }
}
