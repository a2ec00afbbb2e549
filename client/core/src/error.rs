//! Why a call failed, whether it may have reached a service, and how the caller should take it.

use std::time::Duration;

use tonic::Code;

/// A call that got no true answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {message}", monitor::code_name(i32::from(*code)))]
pub struct CallError {
    /// The gRPC code, ours or the service's.
    pub code: Code,
    /// What went wrong, for a person.
    pub message: String,
    /// Whether the service may have acted on the call.
    pub sent: Sent,
    /// True when a service said this itself; false when no service could be asked.
    pub answered: bool,
    /// When trying again makes sense, where that is known.
    pub retry_after: Option<Duration>,
}

/// Whether a failed call may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// No byte of the request was processed: safe to send again.
    No,
    /// It may have happened: safe to send again only when the method is idempotent.
    Maybe,
}

impl CallError {
    /// A failure of this side: nothing was sent.
    pub(crate) fn unsent(code: Code, message: String) -> Self {
        Self { code, message, sent: Sent::No, answered: false, retry_after: None }
    }

    /// Whether no instance could answer, as against an answer that says no: only then may a read be answered degraded.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        is_outage(self.code)
    }

    /// Whether a service answered what was asked, and its answer is no: nobody else would say otherwise.
    pub(crate) fn is_final(&self) -> bool {
        match self.code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated => true,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => false,
        }
    }
}

/// Whether a code says that nobody could answer.
pub(crate) fn is_outage(code: Code) -> bool {
    match code {
        Code::Unavailable | Code::DeadlineExceeded => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
