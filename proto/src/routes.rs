//! A service with what every one of ours serves beside itself: health and reflection.

use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::FILE_DESCRIPTOR_SET;

/// A service ready to be wrapped in layers and handed to [`crate::shim::Shim::serve`].
#[derive(Debug)]
pub struct Built {
    /// The service, `grpc.health.v1.Health`, and server reflection in both versions that clients ask for.
    pub routes: Routes,
    /// Turns the health answers.
    pub health: Health,
}

/// What the health service says of one service, and of the whole server (the empty name).
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    service: &'static str,
}

impl Health {
    /// From now on SERVING.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// From now on NOT_SERVING: new callers look elsewhere.
    pub async fn draining(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        self.reporter.set_service_status(self.service, status).await;
    }
}

/// Puts health and reflection beside `routes`, which serve `service` (`feed.Feed`); NOT_SERVING until
/// [`Health::serving`].
///
/// # Errors
/// The descriptors compiled into this crate are not valid, which a test rules out.
pub async fn build(service: &'static str, routes: Routes) -> Result<Built, tonic_reflection::server::Error> {
    let (reporter, server) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(service)
            .with_service_name("grpc.health.v1.Health")
    };
    let routes = routes
        .add_service(server)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare();
    let health = Health { reporter, service };
    health.draining().await;
    Ok(Built { routes, health })
}
