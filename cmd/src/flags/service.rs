//! The flags of feed, profile and topic: alike but for their ports.

use structopt::StructOpt;

use super::{
    Addr, Advertise, ClientFlags, CommonFlags, Period, StoreUrl, Switch,
    values::{conns, positive},
};

/// What the three services have in common.
#[derive(Clone, Debug)]
pub struct ServiceFlags {
    /// Where gRPC is served.
    pub addr: Addr,
    /// Where the debug port is.
    pub debug_addr: Addr,
    /// What only services have.
    pub own: OwnFlags,
    /// What every process has.
    pub common: CommonFlags,
}

/// What only services have.
#[derive(Clone, Debug, StructOpt)]
pub struct OwnFlags {
    /// Open gRPC connections; more wait until one of them ends
    #[structopt(long = "grpc.conns.max", value_name = "n", default_value = "1024", parse(try_from_str = positive))]
    pub grpc_conns_max: u32,
    /// Where records are kept: memory:, sqlite:PATH or postgres://user@host/database, its password in PGPASSWORD
    #[structopt(long = "store.url", value_name = "url", default_value = "memory:")]
    pub store_url: StoreUrl,
    /// Connections to the store at most
    #[structopt(long = "store.conns", value_name = "n", default_value = "8", parse(try_from_str = conns))]
    pub store_conns: u32,
    /// The longest one statement may take
    #[structopt(long = "store.timeout", value_name = "duration", default_value = "1s")]
    pub store_timeout: Period,
    /// The address that is registered, host:port; default: the host of -addr, else this machine's first IPv4 address
    #[structopt(long = "advertise.addr", value_name = "host:port")]
    pub advertise_addr: Option<Advertise>,
    /// Whether the debug port's address is registered, too, for the gateway's /targets: on or off; the value is then JSON
    #[structopt(long = "advertise.debug", value_name = "on|off", default_value = "off")]
    pub advertise_debug: Switch,
}

macro_rules! service_flags {
    ($(#[$doc:meta])* $name:ident, $addr:literal, $debug:literal $(, $field:ident: $client:ty)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, StructOpt)]
        pub struct $name {
            /// Where gRPC is served
            #[structopt(long = "addr", value_name = "host:port", default_value = $addr)]
            pub addr: Addr,
            /// Where /metrics, /healthz, /readyz and /debug/pprof/ are served
            #[structopt(long = "debug.addr", value_name = "host:port", default_value = $debug)]
            pub debug_addr: Addr,
            /// What only services have.
            #[structopt(flatten)]
            pub own: OwnFlags,
            /// What every process has.
            #[structopt(flatten)]
            pub common: CommonFlags,
            $(
                /// How it calls other services.
                #[structopt(flatten)]
                pub $field: $client,
            )?
        }

        impl $name {
            /// What it has in common with the other services.
            #[must_use]
            pub fn service(&self) -> ServiceFlags {
                ServiceFlags {
                    addr: self.addr.clone(),
                    debug_addr: self.debug_addr.clone(),
                    own: self.own.clone(),
                    common: self.common.clone(),
                }
            }
        }
    };
}

service_flags!(
    /// The feed service: short texts of a user.
    FeedFlags, ":8082", ":6062"
);
service_flags!(
    /// The profile service: who a user is, with the user's feeds.
    ProfileFlags, ":8083", ":6063", client: ClientFlags
);
service_flags!(
    /// The topic service: subjects and what is said of them.
    TopicFlags, ":8084", ":6064"
);
