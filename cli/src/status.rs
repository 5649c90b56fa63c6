//! What the farm refused, as one clear line.
//!
//! `INVALID_ARGUMENT` carries `google.rpc.BadRequest`, which names fields; those are what a person can act on.

use archyard_net::{Outlook, TlsFault, outlook};
use tonic::Status;
use tonic_types::StatusExt as _;

/// One line for a person: what is wrong, without gRPC's own words.
pub(crate) fn describe(status: &Status) -> String {
    if let Some(request) = status.get_details_bad_request()
        && !request.field_violations.is_empty()
    {
        let violations = request.field_violations.iter();
        let named = violations.map(|violation| {
            if violation.field.is_empty() || violation.description.starts_with(&violation.field) {
                violation.description.clone()
            } else {
                format!("{}: {}", violation.field, violation.description)
            }
        });
        return one_line(&named.collect::<Vec<_>>().join("; "));
    }
    if let Some(fault) = TlsFault::of(status) {
        return format!("{fault}; run the command again, and it names the file and the remedy");
    }
    let message = one_line(status.message());
    match (is_transient(status), message.is_empty()) {
        (true, true) => "the farm does not answer".to_owned(),
        (true, false) => format!("the farm does not answer: {message}"),
        (false, true) => status.code().description().to_owned(),
        (false, false) => message,
    }
}

/// Whether asking again may help: the scheduler restarts, or the connection broke.
pub(crate) fn is_transient(status: &Status) -> bool {
    outlook(status) == Outlook::Transient
}

fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn fields_are_named_when_they_are_known() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("plan.tags[0]", "\"x:\": expected a tag");
        let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
        assert_eq!(describe(&status), "plan.tags[0]: \"x:\": expected a tag");
        assert_eq!(describe(&Status::not_found("no build\nX")), "no build X");
        assert_eq!(describe(&Status::unavailable("")), "the farm does not answer");
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert!(describe(&broken).starts_with("the farm does not answer: "), "{}", describe(&broken));
        assert!(!describe(&Status::internal("")).is_empty());
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        assert!(is_transient(&Status::unavailable("x")));
        assert!(!is_transient(&Status::not_found("x")));
        assert!(!is_transient(&Status::internal("a defect of the scheduler")));
    }
}
