//! The attempts of one call: each on another instance, until one is answered.

use std::{sync::Arc, time::Instant};

use async_std::task;
use bytes::Bytes;
use proto::shim;
use tonic::{Code, metadata::MetadataMap};
use tracer::Span;

use super::{Call, Inner, lock};
use crate::{
    breaker::Verdict,
    conn::Failure,
    error::{CallError, Sent},
    explain::Next,
    instance::Instance,
    outcome::Outcome,
    pool::{Picked, Pool},
    reply::Degraded,
    retry::{self, Failed, Refusal, Situation},
};

impl Inner {
    /// Attempts until one is answered, or none is left; then the second best answer, if there was one.
    pub(super) async fn attempts(&self, call: &Call<'_>) -> Result<(Bytes, Option<Degraded>), CallError> {
        let mut second_best = None;
        match self.attempts_for_better(call, &mut second_best).await {
            Err(error) if !error.is_final() => second_best.ok_or(error),
            answer => answer,
        }
    }

    /// Attempts until one is answered well. Of the repeated ones, which a service below may not repeat in turn, a degraded
    /// answer becomes the `second_best`, and another instance is asked.
    async fn attempts_for_better(
        &self,
        call: &Call<'_>,
        second_best: &mut Option<(Bytes, Option<Degraded>)>,
    ) -> Result<(Bytes, Option<Degraded>), CallError> {
        let mut tried: Vec<Arc<Instance>> = Vec::new();
        let mut last: Option<CallError> = None;
        let mut sent = Sent::No;
        if call.method.idempotent {
            lock(&self.budget).deposit(Instant::now());
        }
        for made in 1.. {
            let began = Instant::now();
            if began >= call.deadline {
                return Err(CallError { sent, ..last.unwrap_or_else(|| self.out_of_time()) });
            }
            // Only a first attempt that may be followed by others can afford to find out how an instance does.
            let careful = made > 1 || call.context.retried || !call.method.idempotent;
            let Some(picked) = self.pool.pick(&tried, careful, began) else {
                return Err(CallError { sent, ..last.unwrap_or_else(|| self.nobody()) });
            };
            let instance = Arc::clone(&picked.instance);
            let (error, failed) = match self.attempt(call, picked, made).await {
                Ok((reply, Some(how))) if made > 1 && how.is_outage() => {
                    *second_best = Some((reply, Some(how)));
                    let Outcome { error, failed, .. } = Outcome::of_degraded(how, self.service.name);
                    (error, failed)
                }
                Ok(answer) => {
                    if let Some(trail) = &call.context.explain {
                        trail.attempted(&instance, began, Code::Ok, Next::Answer);
                    }
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if failed.sent == Sent::Maybe {
                sent = Sent::Maybe;
            }
            let now = Instant::now();
            let situation = Situation {
                idempotent: call.method.idempotent,
                made,
                allowed: self.config.attempts,
                retried_upstream: call.context.retried,
                left: call.deadline.saturating_duration_since(now),
            };
            let decision = retry::decide(failed, situation, &mut lock(&self.budget), now, fastrand::f64());
            if let Some(trail) = &call.context.explain {
                trail.attempted(&instance, began, error.code, Next::of(&error, decision));
            }
            match decision {
                Ok(wait) => {
                    if !wait.is_zero() {
                        task::sleep(wait).await;
                    }
                    self.metrics.retry();
                    tried.push(instance);
                    last = Some(error);
                }
                Err(refusal) => {
                    if refusal != Refusal::Unsafe {
                        self.metrics.retry_refused(refusal.as_str());
                    }
                    return Err(CallError { sent, ..error });
                }
            }
        }
        Err(self.nobody())
    }

    /// One attempt on one instance.
    async fn attempt(
        &self,
        call: &Call<'_>,
        picked: Picked,
        made: u32,
    ) -> Result<(Bytes, Option<Degraded>), (CallError, Failed)> {
        let mut held = Held { pool: &self.pool, picked: &picked, verdict: Verdict::Unknown };
        let now = Instant::now();
        let left = call.deadline.saturating_duration_since(now);
        // What will not be retried gets all the time there is; a full attempt's worth of silence is the instance's fault.
        let given = if call.method.idempotent { left.min(self.config.attempt_timeout) } else { left };
        let mut span = self.span(call, &picked, made);
        let headers = call.context.headers(&span, made, given);
        let path = http::uri::PathAndQuery::from_static(call.method.path);
        let answer =
            shim::timeout(given, picked.link.unary(path, headers, call.framed.clone(), self.config.reply_bytes)).await;
        let outcome = match answer {
            Some(Ok(answer)) => {
                held.verdict = Verdict::Success;
                self.metrics.attempt(call.number, 0);
                let degraded = Degraded::read(&MetadataMap::from_headers(answer.headers));
                return Ok((answer.message, degraded));
            }
            // The instance and we wait for the same time: who sees its end first is chance.
            Some(Err(Failure::Service(status))) if status.code() == Code::DeadlineExceeded => {
                Outcome::of_silence(given, &self.config, self.service.name)
            }
            Some(Err(failure)) => Outcome::of(&failure, self.service.name),
            None => Outcome::of_silence(given, &self.config, self.service.name),
        };
        held.verdict = outcome.verdict;
        self.metrics.attempt(call.number, i32::from(outcome.error.code));
        if span.is_recording() {
            span.tag("grpc.code", monitor::code_name(i32::from(outcome.error.code)));
            span.error(&outcome.error.message);
        }
        Err((outcome.error, outcome.failed))
    }

    fn span(&self, call: &Call<'_>, picked: &Picked, made: u32) -> Span {
        let name = call.method.path.get(1..).unwrap_or(call.method.path);
        let mut span = self.tracer.client(name, call.context.trace);
        if span.is_recording() {
            span.remote(self.service.name, picked.link.peer);
            span.tag("instance", Arc::clone(&picked.instance.addr));
            span.tag("attempt", made.to_string());
            span.tag("breaker", picked.instance.breaker());
        }
        span
    }

    fn nobody(&self) -> CallError {
        CallError::unsent(Code::Unavailable, format!("no instance of {} can be reached", self.service.name))
    }

    fn out_of_time(&self) -> CallError {
        CallError::unsent(Code::DeadlineExceeded, "the caller's time is used up".into())
    }
}

/// Gives the grant back, also when the attempt is dropped half way.
struct Held<'a> {
    pool: &'a Pool,
    picked: &'a Picked,
    verdict: Verdict,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.pool.release(&self.picked.instance, &self.picked.grant, self.verdict);
    }
}
