//! Which service answers which path.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service as _;

use super::credentials::Credentials;
use super::filesend::Sent;
use super::filesync::{self, Files};
use super::unavailable::{Alive, NoAgent, NoSecrets};
use crate::engine::tasks::Spawner;

/// The services of one session.
#[derive(Clone)]
pub(super) struct Router {
    files: Arc<Files>,
    spawner: Spawner,
    auth: AuthServer<Credentials>,
    sent: Sent,
    health: HealthServer<Alive>,
    secrets: SecretsServer<NoSecrets>,
    ssh: SshServer<NoAgent>,
}

impl Router {
    pub(super) fn new(
        files: Arc<Files>,
        credentials: Arc<Credentials>,
        sent: Sent,
        spawner: Spawner,
    ) -> Self {
        Self {
            files,
            spawner,
            auth: AuthServer::from_arc(credentials),
            sent,
            health: HealthServer::new(Alive),
            secrets: SecretsServer::new(NoSecrets),
            ssh: SshServer::new(NoAgent),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let service = request.uri().path().rsplit_once('/').map_or("", |(service, _)| service);
        match service {
            "/moby.filesync.v1.FileSync" => {
                let (files, spawner) = (self.files.clone(), self.spawner.clone());
                Box::pin(async move { Ok(filesync::serve(files, spawner, request).await) })
            }
            "/moby.filesync.v1.FileSend" => {
                let (sent, spawner) = (self.sent.clone(), self.spawner.clone());
                Box::pin(async move { Ok(sent.serve(spawner, request).await) })
            }
            "/moby.filesync.v1.Auth" => self.auth.clone().call(request),
            "/grpc.health.v1.Health" => self.health.clone().call(request),
            "/moby.buildkit.secrets.v1.Secrets" => self.secrets.clone().call(request),
            "/moby.sshforward.v1.SSH" => self.ssh.clone().call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("not served in this session").into_http()) }),
        }
    }
}
