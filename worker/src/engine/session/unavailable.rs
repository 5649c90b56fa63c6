//! The services BuildKit may ask for that hold nothing yet, and its question whether we are alive.

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use tokio_stream::Empty;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// BuildKit asks every second, and drops a session that does not answer.
#[derive(Debug)]
pub(super) struct Alive;

#[async_trait]
impl Health for Alive {
    async fn check(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again instead"))
    }
}

/// No secret is known.
#[derive(Debug)]
pub(super) struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        Err(Status::not_found(format!(
            "secret {} not found: this build was given none",
            request.get_ref().id
        )))
    }
}

/// No SSH agent is forwarded.
#[derive(Debug)]
pub(super) struct NoAgent;

#[async_trait]
impl Ssh for NoAgent {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        Err(Status::not_found(format!(
            "SSH key {} not found: this build was given none",
            request.get_ref().id
        )))
    }

    type ForwardAgentStream = Empty<Result<BytesMessage, Status>>;

    async fn forward_agent(
        &self,
        _request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        Err(Status::not_found("this build was given no SSH agent"))
    }
}
