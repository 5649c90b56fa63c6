//! What happens to every answer: a malformed message is blamed on its sender.

use http::HeaderValue;
use tonic::{Code, Status};

/// tonic's words for a message that does not decode, as they stand in a header.
const MALFORMED: &[u8] = b"failed%20to%20decode%20Protobuf%20message";

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
