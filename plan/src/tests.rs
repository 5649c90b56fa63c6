//! Requests from end to end.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use archyard_model::{Blake3, Output, Platform};

use crate::{CheckFlags, Error, ErrorKind, Host, PlanRequest, Planned, plan};

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    dir
}

fn ask(directory: &Path, request: &PlanRequest) -> Result<Planned, Error> {
    let host = Host {
        directory,
        cache: None,
        platforms: &[Platform::new("linux", "amd64", "").unwrap()],
        proxies: &[],
        env: &|name| (name == "FROM_ENV").then(|| "yes".to_owned()),
        has_credentials: &|registry| registry != "docker.io",
        stdin: &|| Ok(b"FROM scratch\n".to_vec()),
    };
    plan(request, &host)
}

fn paths(planned: &Planned) -> Vec<String> {
    planned
        .snapshot
        .manifest
        .entries()
        .iter()
        .map(|e| String::from_utf8_lossy(&e.path).into_owned())
        .collect()
}

fn with_file(context: &str, file: &str) -> PlanRequest {
    PlanRequest { dockerfile: Some(file.into()), ..PlanRequest::new(context) }
}

#[test]
fn prints_the_plan() {
    let dir = tree(&[
        (
            "Dockerfile",
            "ARG V\nFROM --platform=$BUILDPLATFORM golang:$V AS b\nFROM reg.example/x\nCOPY --from=b /a /a\nCOPY src link /x/\n",
        ),
        (".dockerignore", "*.md\n"),
        ("src/main.go", "package main\n"),
        ("README.md", ""),
    ]);
    fs::set_permissions(dir.path().join("src"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("src/main.go", dir.path().join("link")).unwrap();
    fs::hard_link(dir.path().join("src/main.go"), dir.path().join("src/same.go")).unwrap();
    let request = PlanRequest {
        platforms: vec!["linux/arm64/v8,linux/386".to_owned()],
        tags: vec!["127.0.0.1:5000/app".to_owned()],
        build_args: vec!["V=1.21".to_owned(), "FROM_ENV".to_owned(), "NOT_THERE".to_owned()],
        labels: vec!["a=b".to_owned()],
        trial: vec!["linux/riscv64".to_owned()],
        checks: CheckFlags { smoke_tests: vec!["app --version".to_owned()], ..CheckFlags::default() },
        annotations: vec!["index:title=App".to_owned()],
        output: Output::Push,
        pull: true,
        ..PlanRequest::new(".")
    };
    let planned = ask(dir.path(), &request).unwrap();
    let printed = serde_json::to_string_pretty(&planned.printed()).unwrap();
    // It covers modification times.
    let manifest = planned.plan.context.manifest_digest.to_string();
    insta::assert_snapshot!(printed.replace(&manifest, "blake3:[manifest]"));
    assert_eq!(planned.plan.dockerfile, Blake3::of(&planned.dockerfile));
}

#[test]
fn finds_the_dockerfile() {
    let dir = tree(&[
        ("app/Dockerfile", "FROM a\n"),
        ("app/other.df", "FROM b\n"),
        ("Dockerfile", "FROM c\n"),
        ("outside/Dockerfile", "FROM d\n"),
    ]);
    symlink("../outside/Dockerfile", dir.path().join("app/link")).unwrap();
    let absolute = dir.path().join("outside/Dockerfile");
    for (request, image, name) in [
        (PlanRequest::new("app"), "a", "app/Dockerfile"),
        (PlanRequest::new("."), "c", "Dockerfile"),
        (with_file("app", "app/other.df"), "b", "app/other.df"),
        (with_file("app", "Dockerfile"), "c", "Dockerfile"),
        (with_file("app", "app/link"), "d", "app/link"),
        (with_file("app", absolute.to_str().unwrap()), "d", absolute.to_str().unwrap()),
    ] {
        let planned = ask(dir.path(), &request).unwrap();
        assert_eq!(planned.plan.bases[0].token, image);
        assert_eq!(planned.plan.dockerfile_name, name);
    }
    let planned = ask(dir.path(), &with_file("app", "-")).unwrap();
    assert_eq!(
        (planned.plan.dockerfile_name.as_str(), planned.dockerfile.as_slice()),
        ("-", &b"FROM scratch\n"[..])
    );
}

#[test]
fn a_dockerfile_in_lower_case_counts_where_there_is_no_other() {
    let dir = tree(&[
        ("app/dockerfile", "FROM lower\n"),
        ("app/dockerfile.dockerignore", "x\n"),
        ("app/Dockerfile.dockerignore", "y\n"),
        ("app/x", ""),
        ("both/Dockerfile", "FROM upper\n"),
        ("both/dockerfile", "FROM lower\n"),
    ]);
    for (request, image, name) in [
        (PlanRequest::new("app"), "lower", "app/dockerfile"),
        (with_file("app", "app/Dockerfile"), "lower", "app/dockerfile"),
        (with_file("app", ""), "lower", "app/dockerfile"),
        (PlanRequest::new("both"), "upper", "both/Dockerfile"),
        (with_file("both", "both/dockerfile"), "lower", "both/dockerfile"),
    ] {
        let planned = ask(dir.path(), &request).unwrap();
        assert_eq!(
            (planned.plan.bases[0].token.as_str(), planned.plan.dockerfile_name.as_str()),
            (image, name)
        );
    }
    let planned = ask(dir.path(), &PlanRequest::new("app")).unwrap();
    assert_eq!(planned.ignore_file.as_deref(), Some(Path::new("app/dockerfile.dockerignore")));
    // A Dockerfile that is there is the one that is meant, whatever is wrong with it.
    symlink("nowhere", dir.path().join("app/Dockerfile")).unwrap();
    let error = ask(dir.path(), &PlanRequest::new("app")).unwrap_err().to_string();
    assert!(error.starts_with("--file \"app/Dockerfile\": there is no such file"), "{error}");
}

#[test]
fn the_environment_is_read_as_docker_reads_it() {
    let dir = tree(&[("Dockerfile", "FROM a\n")]);
    let own = [Platform::new("linux", "riscv64", "").unwrap()];
    let proxies =
        [("HTTP_PROXY".to_owned(), "http://p".to_owned()), ("http_proxy".to_owned(), "http://p".to_owned())];
    let host = Host {
        directory: dir.path(),
        cache: None,
        platforms: &own,
        proxies: &proxies,
        env: &|name| match name {
            "DOCKER_DEFAULT_PLATFORM" => Some("linux/386,local".to_owned()),
            "SOURCE_DATE_EPOCH" => Some("1700000000".to_owned()),
            _ => None,
        },
        has_credentials: &|_| false,
        stdin: &|| Ok(Vec::new()),
    };
    let planned = plan(&PlanRequest::new("."), &host).unwrap();
    let platforms: Vec<String> = planned.plan.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/386", "linux/riscv64"]);
    let want = [("HTTP_PROXY", "http://p"), ("SOURCE_DATE_EPOCH", "1700000000"), ("http_proxy", "http://p")];
    assert_eq!(planned.plan.build_args, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let request = PlanRequest {
        platforms: vec!["linux/arm64".to_owned()],
        build_args: vec!["Http_Proxy=mine".to_owned(), "SOURCE_DATE_EPOCH=".to_owned()],
        ..PlanRequest::new(".")
    };
    let planned = plan(&request, &host).unwrap();
    assert_eq!(planned.plan.platforms.len(), 1);
    let want = [("Http_Proxy", "mine"), ("SOURCE_DATE_EPOCH", "")];
    assert_eq!(planned.plan.build_args, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn the_dockerfiles_own_ignore_file_comes_first() {
    let dir = tree(&[
        ("app/Dockerfile", "FROM a\nCOPY . /\n"),
        ("app/.dockerignore", "x\n"),
        ("app/x", ""),
        ("app/y", ""),
        ("special", "FROM a\nCOPY . /\n"),
        ("special.dockerignore", "y\n*ockerfile\n.*\n"),
    ]);
    let planned = ask(dir.path(), &PlanRequest::new("app")).unwrap();
    assert_eq!(paths(&planned), [".dockerignore", "Dockerfile", "y"]);
    assert_eq!(planned.ignore_file.as_deref(), Some(Path::new("app/.dockerignore")));
    let planned = ask(dir.path(), &with_file("app", "special")).unwrap();
    assert_eq!(paths(&planned), ["x"]);
    assert_eq!(planned.ignore_file.as_deref(), Some(Path::new("special.dockerignore")));
    fs::remove_file(dir.path().join("app/.dockerignore")).unwrap();
    assert_eq!(ask(dir.path(), &PlanRequest::new("app")).unwrap().ignore_file, None);
}

#[test]
fn bad_input_names_field_value_and_remedy() {
    let dir = tree(&[
        ("app/Dockerfile", "FROM a AS one\nFROM $X\n"),
        ("app/sub/only.df", "FROM a\n"),
        ("good/Dockerfile", "FROM a AS one\n"),
        ("badignore/Dockerfile", "FROM a\n"),
        ("badignore/.dockerignore", "a\n[\n"),
        ("empty/x", ""),
        ("big/Dockerfile", &"#".repeat(5 << 20)),
    ]);
    let good = PlanRequest::new("good");
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let table = [
        (PlanRequest::new("nowhere"), "context \"nowhere\": there is no such directory"),
        (PlanRequest::new("good/Dockerfile"), "context \"good/Dockerfile\": this is a file"),
        (PlanRequest::new("-"), "context \"-\": a context from standard input is not supported"),
        (PlanRequest::new("https://x/y.git"), "context \"https://x/y.git\": a Git repository or URL"),
        (PlanRequest::new("empty"), "--file \"empty/Dockerfile\": there is no such file; add one"),
        (PlanRequest::new("big"), "--file \"big/Dockerfile\": it may have at most 4194304 bytes"),
        (with_file("good", "nope"), "--file \"nope\": there is no such file; --file is relative"),
        (with_file("app", "sub/only.df"), "try --file app/sub/only.df"),
        (with_file("good", "good"), "--file \"good\": this is a directory"),
        (
            PlanRequest::new("app"),
            "app/Dockerfile:2: FROM $X names no image: X is not declared; add ARG X=VALUE above the first FROM",
        ),
        (PlanRequest::new("badignore"), "badignore/.dockerignore:2: pattern \"[\": the '[' is never closed"),
        (
            PlanRequest { target: Some("two".to_owned()), ..good.clone() },
            "--target \"two\": the Dockerfile has no such stage; it has one",
        ),
        (PlanRequest { output: Output::Push, ..good.clone() }, "--tag \"\": --push needs a name"),
        (PlanRequest { tags: strings(&["A"]), ..good.clone() }, "--tag \"A\": "),
        (
            PlanRequest { platforms: strings(&["linux/x"]), ..good.clone() },
            "--platform \"linux/x\": unknown architecture",
        ),
        (
            PlanRequest { build_args: strings(&["=x"]), ..good.clone() },
            "--build-arg \"=x\": expected NAME=VALUE",
        ),
        (PlanRequest { labels: strings(&["=x"]), ..good.clone() }, "--label \"=x\": expected NAME=VALUE"),
        (
            PlanRequest { insecure_registries: strings(&["http://x"]), ..good },
            "--insecure-registry \"http://x\": expected HOST",
        ),
    ];
    for (request, want) in table {
        let error = ask(dir.path(), &request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[test]
fn credentials_are_for_the_registries_it_speaks_to() {
    let dir = tree(&[("Dockerfile", "FROM base.example/x\nCOPY --from=busybox / /\n")]);
    let mut request = PlanRequest { tags: vec!["tags.example/y".to_owned()], ..PlanRequest::new(".") };
    assert_eq!(ask(dir.path(), &request).unwrap().plan.credential_hosts, ["base.example"]);
    request.output = Output::Push;
    assert_eq!(ask(dir.path(), &request).unwrap().plan.credential_hosts, ["base.example", "tags.example"]);
    // A candidate's tags are for later.
    request.output = Output::Candidate;
    request.staging = Some("staging.example/y".to_owned());
    let plan = ask(dir.path(), &request).unwrap().plan;
    assert_eq!(plan.credential_hosts, ["base.example", "staging.example"]);
    assert_eq!(plan.staging.as_deref(), Some("staging.example/y"));
}

#[test]
fn an_unreadable_standard_input_is_no_usage_error() {
    let dir = tree(&[]);
    let host = Host {
        directory: dir.path(),
        cache: None,
        platforms: &[Platform::new("linux", "amd64", "").unwrap()],
        proxies: &[],
        env: &|_| None,
        has_credentials: &|_| false,
        stdin: &|| Err(io::ErrorKind::BrokenPipe.into()),
    };
    let error = plan(&with_file(".", "-"), &host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("standard input"), "{error}");
}
