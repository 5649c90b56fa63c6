//! What happens to every call before and after its service: it gets a principal, and a malformed message is blamed
//! on whoever sent it.

use http::HeaderValue;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Request, Status};

use crate::tls::{Peer, principal};

/// tonic's words for a message that does not decode, as they stand in a header.
const MALFORMED: &[u8] = b"failed%20to%20decode%20Protobuf%20message";

/// An interceptor that puts the caller's principal into every request of one listener.
pub fn identify(
    tls: bool,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + 'static {
    move |mut request| {
        let peer = if tls {
            let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
            Peer::Certified(info.and_then(TlsConnectInfo::peer_certs))
        } else {
            Peer::Local
        };
        let principal = principal(&peer)?;
        request.extensions_mut().insert(principal);
        Ok(request)
    }
}

/// tonic blames itself (INTERNAL) for a message that does not decode; it is its sender's (INVALID_ARGUMENT).
pub fn mend_malformed<B>(mut response: http::Response<B>) -> http::Response<B> {
    let headers = response.headers_mut();
    let internal = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "13");
    let malformed =
        headers.get("grpc-message").is_some_and(|message| message.as_bytes().starts_with(MALFORMED));
    if internal && malformed {
        headers.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(Code::InvalidArgument)));
    }
    response
}
