//! What a failed attempt means, to each who asks: the caller, the retry, the breaker.

use std::time::Duration;

use tonic::Code;

use crate::{
    breaker::Verdict,
    config::Config,
    conn::Failure,
    context::RETRY_PUSHBACK,
    error::{CallError, Sent},
    reply::Degraded,
    retry::Failed,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For the caller, if this was the last attempt.
    pub(crate) error: CallError,
    /// For the decision on another attempt.
    pub(crate) failed: Failed,
    /// For the instance's breaker.
    pub(crate) verdict: Verdict,
}

impl Outcome {
    /// What a failure means: for the caller, for a retry, for the breaker.
    pub(crate) fn of(failure: &Failure, service: &str) -> Self {
        match failure {
            &Failure::Transport(sent, _) => Self {
                error: CallError {
                    code: Code::Unavailable,
                    message: format!("the connection to {} was lost", service),
                    sent,
                    answered: false,
                    retry_after: None,
                },
                failed: Failed { sent, transient: true, pushed_back: false },
                verdict: Verdict::Failure,
            },
            Failure::Service(status) => {
                let code = status.code();
                // An instance that does not know the method did nothing with it.
                let sent = if code == Code::Unimplemented { Sent::No } else { Sent::Maybe };
                let pushback = status.metadata().get(RETRY_PUSHBACK).and_then(|value| value.to_str().ok());
                let failed = Failed {
                    sent,
                    transient: code == Code::Unavailable,
                    pushed_back: pushback.is_some_and(|value| value.starts_with('-')),
                };
                let verdict = if code == Code::Unavailable { Verdict::Failure } else { Verdict::Success };
                let error =
                    CallError { code, message: status.message().to_owned(), sent, answered: true, retry_after: None };
                Self { error, failed, verdict }
            }
        }
    }

    /// An answer, but a degraded one: the failure further down that it tells of.
    pub(crate) fn of_degraded(how: Degraded, service: &str) -> Self {
        let error = CallError {
            code: how.reason,
            message: format!("{service} answered degraded: {how}"),
            sent: Sent::Maybe,
            answered: true,
            retry_after: None,
        };
        let failed = Failed { sent: Sent::Maybe, transient: true, pushed_back: false };
        Self { error, failed, verdict: Verdict::Success }
    }

    /// No answer within the time given, or the instance's own word that this time is over.
    pub(crate) fn of_silence(given: Duration, config: &Config, service: &str) -> Self {
        let error = CallError {
            code: Code::DeadlineExceeded,
            message: format!("{} did not answer within {given:?}", service),
            sent: Sent::Maybe,
            answered: false,
            retry_after: None,
        };
        // Less than a full attempt's time proves nothing: a caller in a hurry must not eject an instance.
        let verdict = if given >= config.attempt_timeout { Verdict::Failure } else { Verdict::Unknown };
        Self { error, failed: Failed { sent: Sent::Maybe, transient: true, pushed_back: false }, verdict }
    }
}
