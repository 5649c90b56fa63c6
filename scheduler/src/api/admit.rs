//! Every call passes here before it reaches its service: the connection names the caller, and the caller's role must
//! be one that may call the RPC.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use tonic::Status;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};

use super::rights::authorize;
use crate::tls::{Peer, caller};

/// Admits the calls of one listener.
#[derive(Debug, Clone, Copy)]
pub struct AdmitLayer {
    secured: bool,
}

impl AdmitLayer {
    /// For a listener with TLS, or for one without.
    pub fn new(secured: bool) -> Self {
        Self { secured }
    }
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admit { inner, secured: self.secured }
    }
}

/// The service that [`AdmitLayer`] makes.
#[derive(Debug, Clone)]
pub struct Admit<S> {
    inner: S,
    secured: bool,
}

impl<S, B, R> Service<http::Request<B>> for Admit<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        match admit(self.secured, &mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refused) => Either::Right(ready(Ok(refused.into_http()))),
        }
    }
}

/// Puts the caller's principal into the request, for the services.
fn admit<B>(secured: bool, request: &mut http::Request<B>) -> Result<(), Status> {
    let peer = if secured {
        let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        Peer::Certified(info.and_then(TlsConnectInfo::peer_certs))
    } else {
        Peer::Local
    };
    let caller = caller(&peer)?;
    authorize(&caller, request.uri().path())?;
    request.extensions_mut().insert(caller.principal);
    Ok(())
}
