//! Why an Engine did not do what it was asked, and who is to blame.
//!
//! Messages are one line, for the person who asked: what, which value, what to do.

use archyard_model::{Failure, FailureClass};

/// A build that left no image.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile, or what it names, is at fault: trying again changes nothing.
    #[error("{}", .0.message)]
    User(Failure),
    /// The Engine's machine, its disk or its network is at fault.
    #[error("{}", .0.message)]
    Infrastructure(Failure),
    /// The Engine, or the connection to it, went away in mid-build.
    #[error("lost the Docker Engine at {endpoint} in mid-build: {reason}")]
    EngineLost {
        /// Where it was.
        endpoint: String,
        /// What the connection said.
        reason: String,
    },
    /// Stopped because the caller asked.
    #[error("the build was canceled")]
    Canceled,
}

impl BuildError {
    /// The same in the model's words.
    pub fn into_failure(self) -> Failure {
        let message = self.to_string();
        match self {
            Self::User(failure) | Self::Infrastructure(failure) => failure,
            Self::EngineLost { .. } => Failure::new(FailureClass::Infrastructure, "engine_lost", message),
            Self::Canceled => Failure::new(FailureClass::Canceled, "canceled", message),
        }
    }
}

/// An image that did not reach every repository.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PushError {
    /// The registry refused: trying again changes nothing.
    #[error("{}", .0.message)]
    User(Failure),
    /// Engine, disk, network or registry is at fault.
    #[error("{}", .0.message)]
    Infrastructure(Failure),
    /// Stopped because the caller asked.
    #[error("the push was canceled")]
    Canceled,
}

impl PushError {
    /// The Engine that holds the image does not answer.
    pub(super) fn unreachable(error: &EngineError) -> Self {
        let class = FailureClass::Infrastructure;
        Self::Infrastructure(Failure::new(class, "engine_unreachable", error.to_string()))
    }

    /// The same in the model's words.
    pub fn into_failure(self) -> Failure {
        let message = self.to_string();
        match self {
            Self::User(failure) | Self::Infrastructure(failure) => failure,
            Self::Canceled => Failure::new(FailureClass::Canceled, "canceled", message),
        }
    }
}

/// A request to the Engine's own API that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No answer.
    #[error(
        "the Docker Engine at {endpoint} does not answer: {reason}; is it running, and may this user open its socket?"
    )]
    Unreachable {
        /// Where it was expected.
        endpoint: String,
        /// What the connection said.
        reason: String,
    },
    /// An answer that is an error.
    #[error("the Docker Engine at {endpoint} refused to {action}: {message}")]
    Refused {
        /// Where it is.
        endpoint: String,
        /// What it was asked for.
        action: &'static str,
        /// What it said.
        message: String,
    },
    /// What listens there is no Docker Engine, and never will be.
    #[error(
        "engine {endpoint:?} is {product}, which has no BuildKit inside; a worker needs Docker Engine 20.10 or newer: install docker.io, and name its socket with --engine unix:///var/run/docker.sock"
    )]
    NotDocker {
        /// Where it is.
        endpoint: String,
        /// What it says it is: `Podman 4.3.1`.
        product: String,
    },
    /// An endpoint nobody can dial.
    #[error("engine endpoint {endpoint:?} is not supported: {problem}; write unix:///var/run/docker.sock")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
