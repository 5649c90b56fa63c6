//! Builds that succeed, and builds that fail for every reason a Dockerfile has.

use archyard_model::FailureClass::{Infrastructure, User};
use archyard_worker::engine::BuildRequest;

use crate::fixture::{Kind, Tree, api, build, dockerfile, engine, request, unique};

on_every_engine! {
    tells_what_happens_and_finds_it_cached_the_next_time,
    passes_arguments_labels_and_target_on,
    builds_for_the_platform_asked_for,
    cache_mounts_of_two_namespaces_are_two,
    output_larger_than_any_message_arrives_whole,
    output_of_many_small_writes_arrives_whole,
    a_step_that_fails_after_much_output_keeps_its_error_and_line,
    failures_name_who_is_to_blame_and_where,
    failures_that_have_no_line_are_still_told,
    a_file_that_the_worker_cannot_read_is_not_the_users_fault,
}

/// The same build again.
fn again(request: &BuildRequest) -> BuildRequest {
    BuildRequest { build_ref: unique("build"), ..request.clone() }
}

async fn tells_what_happens_and_finds_it_cached_the_next_time(on: Kind) {
    let data = unique("data");
    let tree = Tree::builder().busybox().file("data", data.as_bytes()).done();
    let request = request(&dockerfile("COPY data /data\nRUN cat /data; echo oops >&2\n"));
    let first = build(&engine(on), request.clone(), tree.clone()).await;
    assert_eq!(first.succeeded().steps, 3);
    assert_eq!((first.output(1), first.output(2).as_str()), (data, "oops\n"));
    let run = first.vertices().filter(|vertex| vertex.name.contains("RUN cat /data")).collect::<Vec<_>>();
    assert!(run.iter().any(|vertex| vertex.started_at.is_some() && vertex.completed_at.is_none()));
    assert!(run.last().unwrap().completed_at.is_some());
    assert!(run.windows(2).all(|pair| pair[0] != pair[1]), "an unchanged vertex was told again");

    let second = build(&engine(on), again(&request), tree.clone()).await;
    assert_eq!(second.succeeded().image, first.succeeded().image);
    assert_eq!((second.succeeded().cached_steps, second.output(0).as_str()), (3, ""));

    let third = build(&engine(on), BuildRequest { no_cache: true, ..again(&request) }, tree).await;
    third.succeeded();
    assert_eq!(third.output(2), "oops\n");
}

async fn passes_arguments_labels_and_target_on(on: Kind) {
    let value = unique("value");
    let text = dockerfile("ARG WORD=none\nRUN echo \"word=$WORD\"\nFROM nowhere.invalid/never:1\n");
    let mut request = request(&text.replacen("FROM scratch", "FROM scratch AS first", 1));
    request.target = Some("first".to_owned());
    request.build_args.insert("WORD".to_owned(), value.clone());
    request.labels.insert("test.label".to_owned(), value.clone());
    let ended = build(&engine(on), request, Tree::builder().busybox().done()).await;
    let image = api(on).inspect_image(&ended.succeeded().image.to_string()).await.unwrap();
    assert_eq!(ended.output(1), format!("word={value}\n"));
    assert_eq!(image.config.unwrap().labels.unwrap()["test.label"], value);
}

async fn builds_for_the_platform_asked_for(on: Kind) {
    let mut request = request("FROM scratch\nCOPY busybox /\n");
    request.platform = "linux/arm/v7".parse().unwrap();
    let ended = build(&engine(on), request, Tree::builder().busybox().done()).await;
    let image = api(on).inspect_image(&ended.succeeded().image.to_string()).await.unwrap();
    assert_eq!((image.architecture.as_deref(), image.variant.as_deref()), (Some("arm"), Some("v7")));
}

async fn cache_mounts_of_two_namespaces_are_two(on: Kind) {
    let tree = Tree::builder().busybox().done();
    let text = dockerfile("ARG TRY\nRUN --mount=type=cache,target=/cache ls /cache; touch /cache/mine\n");
    let mut request = request(&text);
    request.cache_namespace = unique("project");
    let again = |request: &BuildRequest| {
        let mut again = again(request);
        again.build_args.insert("TRY".to_owned(), unique("try"));
        again
    };
    let first = build(&engine(on), again(&request), tree.clone()).await;
    let same = build(&engine(on), again(&request), tree.clone()).await;
    request.cache_namespace = unique("project");
    request.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), "theirs".to_owned());
    let other = build(&engine(on), again(&request), tree).await;
    for (ended, want) in [(first, ""), (same, "mine\n"), (other, "")] {
        ended.succeeded();
        assert_eq!(ended.output(1), want);
    }
}

async fn output_larger_than_any_message_arrives_whole(on: Kind) {
    let text = dockerfile(&format!("RUN seq 1 300000 # {}\n", unique("x")));
    let ended = build(&engine(on), request(&text), Tree::builder().busybox().done()).await;
    ended.succeeded();
    let want: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(ended.output(1) == want, "{} bytes of {}", ended.output(1).len(), want.len());
}

/// Writes this many lines, one at a time, and then something else.
fn lines_then(lines: u32, end: &str) -> String {
    let line = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789";
    dockerfile(&format!(
        "RUN i=0; while [ $i -lt {lines} ]; do echo $i {line}; i=$((i+1)); done; echo THE END; {end} # {}\n",
        unique("x")
    ))
}

async fn output_of_many_small_writes_arrives_whole(on: Kind) {
    let ended =
        build(&engine(on), request(&lines_then(400_000, "true")), Tree::builder().busybox().done()).await;
    ended.succeeded();
    let output = ended.output(1);
    assert_eq!(
        (output.lines().count(), output.ends_with("\nTHE END\n")),
        (400_001, true),
        "{}",
        output.len()
    );
    assert!(output.lines().zip(0..).take(400_000).all(|(line, n)| line.starts_with(&format!("{n} "))));
    assert!(ended.frames.len() < 200_000, "{} frames", ended.frames.len());
}

async fn a_step_that_fails_after_much_output_keeps_its_error_and_line(on: Kind) {
    let text = lines_then(400_000, "exit 7");
    let ended = build(&engine(on), request(&text), Tree::builder().busybox().done()).await;
    assert!(ended.output(1).ends_with("\nTHE END\n"));
    let failure = ended.failure();
    assert_eq!((failure.class, failure.code.as_str(), failure.exit_code), (User, "run_failed", Some(7)));
    assert!(failure.message.starts_with("Dockerfile:5: RUN i=0;"), "{failure}");
}

async fn failures_name_who_is_to_blame_and_where(on: Kind) {
    let denied = crate::registries::answering(401).await;
    let broken = crate::registries::answering(503).await;
    let none = crate::registries::answering(404).await;
    let nowhere = "127.0.0.1:1";
    for (rest, class, code, exit_code, line) in [
        ("RUN echo 1\nRUN echo no >&2; \\\n  exit 7\n", User, "run_failed", Some(7), 6),
        ("RUN sh -c 'kill -9 $$'; exit $?\n", User, "run_failed", Some(137), 5),
        ("RUN [\"/bin/nothing\"]\n", User, "run_failed", Some(1), 5),
        ("COPY nope /\n", User, "copy_failed", None, 5),
        ("FOO bar\n", User, "dockerfile_invalid", None, 5),
        ("RUN --mount=type=secret,id=x,required=true true\n", User, "build_failed", None, 5),
        (&format!("FROM {none}/nope:1\nRUN true\n"), User, "base_not_found", None, 5),
        (&format!("FROM {denied}/nope:1\nRUN true\n"), User, "base_denied", None, 5),
        (&format!("FROM {broken}/nope:1\nRUN true\n"), Infrastructure, "registry_unreachable", None, 5),
        (&format!("FROM {nowhere}/nope:1\nRUN true\n"), Infrastructure, "registry_unreachable", None, 5),
        ("RUN echo 'x: No space left on device' >&2; exit 1\n", Infrastructure, "disk_full", None, 5),
    ] {
        let request = request(&dockerfile(rest));
        let ended = build(&engine(on), request, Tree::builder().busybox().done()).await;
        let failure = ended.failure();
        let context = format!("{rest}: {failure:#?}\n{:?}", ended.output(0));
        assert_eq!(
            (failure.class, failure.code.as_str(), failure.exit_code),
            (class, code, exit_code),
            "{context}"
        );
        assert!(failure.message.starts_with(&format!("Dockerfile:{line}: ")), "{context}");
        assert!(!failure.message.contains('\n'), "{context}");
        assert!(failure.detail.starts_with(&format!("Dockerfile:{line}\n---")), "{context}");
        assert!(failure.detail.contains(">>>"), "{context}");
    }
}

async fn failures_that_have_no_line_are_still_told(on: Kind) {
    for (text, target, code, words) in [
        ("", None, "dockerfile_invalid", "empty"),
        ("RUN x\n", None, "dockerfile_invalid", "no build stage"),
        ("FROM scratch\nCOPY busybox /\n", Some("nope"), "target_not_found", "nope"),
    ] {
        let mut request = request(text);
        request.target = target.map(str::to_owned);
        let failure = build(&engine(on), request, Tree::builder().busybox().done()).await.failure();
        assert_eq!((failure.class, failure.code.as_str()), (User, code), "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
    }
}

async fn a_file_that_the_worker_cannot_read_is_not_the_users_fault(on: Kind) {
    let content = unique("content");
    let tree = Tree::builder().file("data", content.as_bytes()).done();
    tree.lose(content.as_bytes());
    let failure = build(&engine(on), request("FROM scratch\nCOPY data /\n"), tree).await.failure();
    assert_eq!((failure.class, failure.code.as_str()), (Infrastructure, "context_unreadable"), "{failure:?}");
    assert!(failure.message.contains("data"), "{failure:?}");
}
