//! Registry credentials, for the bases that BuildKit pulls. Nothing is logged here.

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status, async_trait};

use crate::engine::Credential;

/// Answers by host.
#[derive(Debug)]
pub(super) struct Credentials(Vec<Credential>);

impl Credentials {
    pub(super) fn new(credentials: Vec<Credential>) -> Self {
        Self(credentials)
    }

    /// An unknown host gets empty strings: BuildKit then asks the registry anonymously.
    fn answer(&self, host: &str) -> CredentialsResponse {
        let host = if host == "registry-1.docker.io" { "docker.io" } else { host };
        self.0.iter().find(|credential| credential.host == host).map_or_else(
            CredentialsResponse::default,
            |credential| CredentialsResponse {
                username: credential.username.clone(),
                secret: credential.secret.expose_secret().to_owned(),
            },
        )
    }
}

/// BuildKit falls back to [`Auth::credentials`] where the token methods are not implemented.
#[async_trait]
impl Auth for Credentials {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        Ok(Response::new(self.answer(&request.get_ref().host)))
    }

    async fn fetch_token(
        &self,
        _request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are BuildKit's to fetch"))
    }

    async fn get_token_authority(
        &self,
        _request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are BuildKit's to fetch"))
    }

    async fn verify_token_authority(
        &self,
        _request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are BuildKit's to fetch"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_host_and_knows_docker_hubs_other_name() {
        let credentials = Credentials::new(vec![Credential {
            host: "docker.io".to_owned(),
            username: "me".to_owned(),
            secret: "word".to_owned().into(),
        }]);
        assert_eq!(credentials.answer("registry-1.docker.io").secret, "word");
        assert_eq!(credentials.answer("elsewhere"), CredentialsResponse::default());
    }
}
