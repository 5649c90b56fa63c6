//! What BuildKit is asked to do: one Solve with the Dockerfile frontend, its result left in the Engine's
//! store, or sent back as files.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;

use super::inputs::whole_context;
use super::policy::source_policy;
use super::{BuildRequest, Form};

/// A caller's own cache namespace must not win over ours: it separates projects that share an Engine.
const CACHE_NAMESPACE: &str = "build-arg:BUILDKIT_CACHE_MOUNT_NS";

/// The Solve for a request whose session is called `session`.
pub(super) fn solve_request(request: &BuildRequest, session: String, exporter: &str) -> SolveRequest {
    let inputs = if request.whole_context { whole_context(&session) } else { HashMap::new() };
    SolveRequest {
        r#ref: request.build_ref.clone(),
        session,
        frontend_inputs: inputs,
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: frontend_attributes(request),
        // The newer list of exporters is ignored without error by 20.10.
        exporter_deprecated: exporter.to_owned(),
        exporter_attrs_deprecated: HashMap::new(),
        source_policy: source_policy(&request.pins),
        ..SolveRequest::default()
    }
}

/// The exporter that leaves an image in the Engine's store.
pub(super) const IMAGE: &str = "moby";

/// The one that sends the root file system back.
pub(super) fn files(form: Form) -> &'static str {
    match form {
        Form::Tar => "tar",
        Form::Exact => "local",
    }
}

/// The name the session serves the Dockerfile under: the last component of the user's.
pub(super) fn dockerfile_name(request: &BuildRequest) -> &str {
    let name = request.dockerfile_name.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") { "Dockerfile" } else { name }
}

fn frontend_attributes(request: &BuildRequest) -> HashMap<String, String> {
    let mut attributes = HashMap::new();
    let mut set = |name: String, value: &str| attributes.insert(name, value.to_owned());
    for (name, value) in &request.build_args {
        set(format!("build-arg:{name}"), value);
    }
    for (name, value) in &request.labels {
        set(format!("label:{name}"), value);
    }
    set(CACHE_NAMESPACE.to_owned(), &request.cache_namespace);
    set("filename".to_owned(), dockerfile_name(request));
    set("platform".to_owned(), &request.platform.to_string());
    if let Some(target) = &request.target {
        set("target".to_owned(), target);
    }
    if request.no_cache {
        // Empty: of every stage.
        set("no-cache".to_owned(), "");
    }
    if request.pull {
        set("image-resolve-mode".to_owned(), "pull");
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    #[test]
    fn says_what_was_asked_and_nothing_else() {
        let mut asked = request();
        let attributes = solve_request(&asked, "s".to_owned(), IMAGE).frontend_attrs;
        let plain = [(CACHE_NAMESPACE, "ours"), ("filename", "app.Dockerfile"), ("platform", "linux/arm/v7")];
        assert_eq!(attributes, HashMap::from(plain.map(|(name, value)| (name.to_owned(), value.to_owned()))));

        asked.no_cache = true;
        asked.pull = true;
        asked.target = Some("t".to_owned());
        asked.labels.insert("l".to_owned(), "1".to_owned());
        let attributes = solve_request(&asked, "s".to_owned(), IMAGE).frontend_attrs;
        for (name, value) in
            [("no-cache", ""), ("image-resolve-mode", "pull"), ("target", "t"), ("label:l", "1")]
        {
            assert_eq!(attributes[name], value, "{name}");
        }
    }

    #[test]
    fn a_context_to_be_read_whole_is_an_input() {
        let asked = BuildRequest { whole_context: true, ..request() };
        let inputs = solve_request(&asked, "s".to_owned(), IMAGE).frontend_inputs;
        let (name, definition) = inputs.into_iter().next().unwrap();
        assert_eq!((name.as_str(), definition.def.len()), ("context", 2));
        assert!(solve_request(&request(), "s".to_owned(), IMAGE).frontend_inputs.is_empty());
    }

    #[test]
    fn a_build_argument_cannot_leave_its_cache_namespace() {
        let mut asked = request();
        asked.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), "theirs".to_owned());
        assert_eq!(frontend_attributes(&asked)[CACHE_NAMESPACE], "ours");
    }

    #[test]
    fn the_dockerfile_always_has_a_name() {
        for (given, want) in [("", "Dockerfile"), ("a/..", "Dockerfile"), ("a/b", "b"), ("x", "x")] {
            let request = BuildRequest { dockerfile_name: given.to_owned(), ..request() };
            assert_eq!(dockerfile_name(&request), want);
        }
    }
}
