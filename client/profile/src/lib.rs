//! The profile client package: typed methods over [`client_core::Caller`].
//!
//! Degraded means here: `GetProfile` is answered from the last good reply for the same request, else with the id and empty texts.
//! `CreateProfile` is never answered degraded and never sent twice when the first may have arrived.
//!
//! ```text
//!   ProfileClient: typed methods --> Caller: deadline, attempts, degraded replies --> the instances of profile
//!     SERVICE: the method table        Parts: directory, bounds, metrics, traces
//! ```
//!
//! Here no instance is there to ask:
//!
//! ```
//! use client_core::{Context, Parts, directory::fixed::Fixed};
//! use client_profile::ProfileClient;
//! use proto::profile::GetProfileRequest;
//!
//! let client = ProfileClient::new(&Parts::fixed(Fixed::default()));
//! let (context, request) = (Context::default(), GetProfileRequest { user_id: 123 });
//! let reply = futures_lite::future::block_on(client.get_profile(&context, &request))?;
//! assert_eq!((reply.value.user_id, reply.value.name.as_str()), (123, ""));
//! assert!(reply.degraded.is_some_and(|how| how.to_string() == "default; reason=UNAVAILABLE"));
//! # Ok::<(), client_core::CallError>(())
//! ```

use client_core::{CallError, Caller, Context, Method, Parts, Reply, Service};
use proto::profile::{CreateProfileRequest, GetProfileRequest, GetProfileResponse, OkResponse};

/// The service and its methods; a method's number is its place in the table.
pub const SERVICE: &Service = &Service {
    name: "profile",
    grpc: "profile.Profile",
    methods: &[
        Method { name: "GetProfile", path: "/profile.Profile/GetProfile", idempotent: true, fallback: true },
        Method { name: "CreateProfile", path: "/profile.Profile/CreateProfile", idempotent: false, fallback: false },
    ],
};
const GET: usize = 0;
const CREATE: usize = 1;

/// Calls the profile service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProfileClient {
    caller: Caller,
}

impl ProfileClient {
    /// Starts watching and connecting; never fails, never waits.
    #[must_use]
    pub fn new(parts: &Parts) -> Self {
        Self { caller: Caller::new(SERVICE, parts) }
    }

    /// A user's profile, true or degraded: the id and empty texts at worst.
    ///
    /// # Errors
    /// The service's own error; or, for a strict caller or with the fallback off, why no instance could answer.
    pub async fn get_profile(
        &self,
        context: &Context,
        request: &GetProfileRequest,
    ) -> Result<Reply<GetProfileResponse>, CallError> {
        let default = || Some(GetProfileResponse { user_id: request.user_id, ..GetProfileResponse::default() });
        self.caller.call(context, GET, request, default).await
    }

    /// Stores a profile. `Err` says whether it may have happened all the same.
    ///
    /// # Errors
    /// The service's own error, or why no instance could answer.
    pub async fn create_profile(&self, context: &Context, request: &CreateProfileRequest) -> Result<(), CallError> {
        self.caller.call(context, CREATE, request, || None::<OkResponse>).await.map(|_| ())
    }

    /// What it calls through, for readiness and the debug port.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}
