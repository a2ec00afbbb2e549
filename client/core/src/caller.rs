//! One service as its callers see it: a call with its deadline, attempts, fallback, metrics and spans.
//!
//! ```text
//!   call --limit?--> attempt --pick--> instance --> answer -----------------------> remember, give it
//!          |            ^                |
//!          |            |                failed --> retry? (retry.rs) --no--> a read? --> last good reply, or the default
//!          429          +--------- yes, elsewhere <------+                      |
//!                                                                            the error, saying whether it may have happened
//! ```
//!
//! The attempts: [`attempts`].

mod attempts;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use monitor::ClientMetrics;
use tonic::Code;
use tracer::Tracer;

use crate::{
    config::Config,
    conn,
    context::Context,
    directory::etcd,
    error::{CallError, Sent},
    fallback::Memory,
    limit::Bucket,
    parts::{Method, Parts, Service, follow},
    pool::{self, Pool},
    reply::{Degraded, Kind, Reply},
    retry::Budget,
    snapshot::Snapshot,
};

/// Calls one service. Cheap to clone; the last clone takes the connections with it.
#[derive(Clone, Debug)]
pub struct Caller {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    service: &'static Service,
    config: Config,
    pool: Arc<Pool>,
    watcher: Option<etcd::Watcher>,
    budget: Mutex<Budget>,
    limit: Option<Mutex<Bucket>>,
    memory: Mutex<Memory>,
    metrics: ClientMetrics,
    tracer: Tracer,
}

/// A call's bytes and bounds, shared by its attempts.
struct Call<'a> {
    context: &'a Context,
    number: usize,
    method: &'static Method,
    /// The request, encoded and framed once for all attempts.
    framed: Bytes,
    /// The request, encoded.
    body: Bytes,
    deadline: Instant,
}

impl Caller {
    /// Starts watching the directory and connecting to instances; never fails, never waits.
    #[must_use]
    pub fn new(service: &'static Service, parts: &Parts) -> Self {
        let methods: Vec<_> = service.methods.iter().map(|method| method.name).collect();
        let metrics = parts.monitor.client(service.name, &methods);
        let now = Instant::now();
        let config = parts.config.clone();
        let pool = Pool::start(pool::Options {
            service: service.grpc,
            balance: config.balance,
            tls: parts.tls.clone(),
            metrics: metrics.clone(),
        });
        let watcher = follow(service, parts, Arc::new(Arc::clone(&pool)));
        let inner = Inner {
            service,
            pool,
            watcher,
            budget: Mutex::new(Budget::new(now)),
            limit: config.rps.map(|rate| Mutex::new(Bucket::new(rate, now))),
            memory: Mutex::new(Memory::new(config.memory_entries, config.memory_bytes, config.memory_age)),
            metrics,
            tracer: parts.tracer.clone(),
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Calls method number `method`; `default` makes the degraded reply of last resort.
    ///
    /// # Errors
    /// The service's own answer when it is not OK; RESOURCE_EXHAUSTED over the configured rate; UNAVAILABLE or
    /// DEADLINE_EXCEEDED when no instance could answer and no degraded reply may be given.
    pub async fn call<Req, Res>(
        &self,
        context: &Context,
        method: usize,
        request: &Req,
        default: impl FnOnce() -> Option<Res>,
    ) -> Result<Reply<Res>, CallError>
    where
        Req: prost::Message,
        Res: prost::Message + Default,
    {
        let started = Instant::now();
        let inner = &*self.inner;
        let Some(found) = inner.service.methods.get(method) else {
            return Err(CallError::unsent(Code::Internal, format!("{} has no method {method}", inner.service.name)));
        };
        let longest = started + inner.config.timeout;
        let framed = conn::frame(request);
        let call = Call {
            context,
            number: method,
            method: found,
            body: framed.slice(conn::PREFIX..),
            framed,
            deadline: context.deadline.map_or(longest, |deadline| deadline.min(longest)),
        };
        if let Some(trail) = &context.explain {
            trail.begin(found.path, inner.config.balance, &inner.pool, started);
        }
        let mut answer = match inner.admit(started) {
            Ok(()) => inner.attempts(&call).await.and_then(|(reply, degraded)| inner.accept(&call, &reply, degraded)),
            Err(error) => Err(error),
        };
        let own = answer.as_ref().err().map_or(Code::Ok, |error| error.code);
        if let Err(error) = &answer
            && let Some(reply) = inner.degrade(&call, error, default)
        {
            answer = Ok(reply);
        }
        if let Some(trail) = &context.explain {
            let degraded = answer.as_ref().ok().and_then(|reply| reply.degraded);
            trail.end(own, degraded, call.deadline, &mut lock(&inner.budget));
        }
        let code = answer.as_ref().err().map_or(Code::Ok, |error| error.code);
        let now = Instant::now();
        inner.metrics.call(method, i32::from(code), now.saturating_duration_since(started), now);
        answer
    }

    /// A line for `/readyz`: the list stands at some revision, and the first dials have ended; or what is missing yet.
    /// That all instances are down is no reason to be not ready: degraded replies are given, too.
    ///
    /// # Errors
    /// Why no list is known, or that it is so new that nobody on it was reached or missed yet.
    pub fn ready(&self) -> Result<String, String> {
        let inner = &*self.inner;
        let trouble = inner.watcher.as_ref().and_then(etcd::Watcher::last_error);
        if inner.pool.is_known() && !inner.pool.is_settled() {
            Err(format!("dialling {} instances", inner.pool.counts().0))
        } else if inner.pool.is_known() {
            let (all, ready, out) = inner.pool.counts();
            let trouble = trouble.map(|error| format!("; registry: {error}")).unwrap_or_default();
            Ok(format!("{ready} of {all} connected, {out} ejected, revision {}{trouble}", inner.pool.revision()))
        } else {
            Err(trouble.unwrap_or_else(|| "the registry has not answered yet".into()))
        }
    }

    /// The debug ports of the listed instances, of those that registered it.
    #[must_use]
    pub fn debug_addrs(&self) -> Vec<String> {
        let (entries, _) = self.inner.pool.entries();
        entries.iter().filter(|entry| entry.is_listed()).filter_map(|entry| entry.endpoint.debug.clone()).collect()
    }

    /// How it stands, with `most` instances at most, for the debug port.
    #[must_use]
    pub fn snapshot(&self, most: usize) -> Snapshot {
        let inner = &*self.inner;
        Snapshot::of(&inner.pool, inner.watcher.as_ref(), inner.metrics.figures(Instant::now()), most)
    }
}

impl Inner {
    /// Asks the caller's own rate limit.
    fn admit(&self, now: Instant) -> Result<(), CallError> {
        let Some(limit) = &self.limit else { return Ok(()) };
        lock(limit).take(now).map_err(|wait| {
            self.metrics.limited();
            CallError {
                retry_after: Some(wait),
                ..CallError::unsent(
                    Code::ResourceExhausted,
                    format!(
                        "more than {} calls a second to {}",
                        self.config.rps.unwrap_or_default(),
                        self.service.name
                    ),
                )
            }
        })
    }

    /// Decodes a reply and remembers a true one.
    fn accept<Res>(&self, call: &Call<'_>, bytes: &Bytes, degraded: Option<Degraded>) -> Result<Reply<Res>, CallError>
    where
        Res: prost::Message + Default,
    {
        let value = Res::decode(bytes.clone()).map_err(|error| CallError {
            code: Code::Internal,
            message: format!("{} sent a reply that cannot be decoded: {error}", self.service.name),
            sent: Sent::Maybe,
            answered: true,
            retry_after: None,
        })?;
        if call.method.fallback && self.config.fallback && degraded.is_none() {
            lock(&self.memory).put(call.number, &call.body, bytes, Instant::now());
        }
        Ok(Reply { value, degraded })
    }

    /// A degraded reply, where one may be given.
    fn degrade<Res>(
        &self,
        call: &Call<'_>,
        error: &CallError,
        default: impl FnOnce() -> Option<Res>,
    ) -> Option<Reply<Res>>
    where
        Res: prost::Message + Default,
    {
        if !call.method.fallback || !self.config.fallback || call.context.strict || !error.is_outage() {
            return None;
        }
        let remembered = lock(&self.memory).get(call.number, &call.body, Instant::now());
        let stale = remembered.and_then(|(bytes, age)| Some((Res::decode(bytes).ok()?, Kind::Stale { age })));
        let (value, kind) = match stale {
            Some(stale) => stale,
            None => (default()?, Kind::Default),
        };
        self.metrics.fallback(call.number, kind.as_str());
        Some(Reply { value, degraded: Some(Degraded { kind, reason: error.code }) })
    }
}

/// Held for a few instructions, never across an await; a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
