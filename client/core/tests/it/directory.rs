//! The directory and the registrar against real etcd processes: latency, losses, restarts, clusters, users, TLS.

mod faults;
mod registrar;
mod rig;
mod secure;
mod watcher;
