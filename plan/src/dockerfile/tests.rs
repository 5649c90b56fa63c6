//! Whole Dockerfiles.

use proptest::prelude::*;

use super::*;

pub(super) const KUBO: &str = "\
# syntax=docker/dockerfile:1
# Enables BuildKit with cache mount.
FROM --platform=${BUILDPLATFORM:-linux/amd64} golang:1.21 AS builder

ARG TARGETOS TARGETARCH
ENV SRC_DIR=/kubo
COPY go.mod go.sum $SRC_DIR/
WORKDIR $SRC_DIR
RUN --mount=type=cache,target=/go/pkg/mod \\
    go mod download
COPY . $SRC_DIR
ARG MAKE_TARGET=build
RUN --mount=type=cache,target=/go/pkg/mod \\
    mkdir -p .git/objects \\
  && GOOS=$TARGETOS GOARCH=$TARGETARCH make ${MAKE_TARGET} IPFS_PLUGINS=$IPFS_PLUGINS

FROM debian:stable-slim AS utilities
RUN set -eux; \\
    apt-get update

FROM busybox:stable-glibc
COPY --from=utilities /usr/sbin/gosu /sbin/gosu
COPY --from=builder --chmod=0755 /kubo/cmd/ipfs/ipfs /usr/local/bin/ipfs
HEALTHCHECK --interval=30s --timeout=3s CMD ipfs --api=/ip4/127.0.0.1/tcp/5001 dag stat /ipfs/x || exit 1
CMD [\"daemon\", \"--migrate=true\"]
";

fn platforms(list: &[&str]) -> Vec<Platform> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn ask(text: &str, list: &[&str], target: Option<&str>, args: &[(&str, &str)]) -> Result<Bases, Error> {
    let build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let platforms = platforms(list);
    let cross = &BTreeSet::new();
    let question =
        Question { name: "Dockerfile", platforms: &platforms, cross, target, build_args: &build_args };
    let found = bases(text.as_bytes(), &question)?;
    let mut end = 0;
    for base in &found.bases {
        let span = usize::try_from(base.span.start).unwrap()..usize::try_from(base.span.end).unwrap();
        assert!(end <= span.start, "{base:?} overlaps");
        end = span.end;
        assert_eq!(text[span], base.token);
    }
    Ok(found)
}

/// `line kind token=image@platform`, for one job of linux/amd64.
fn one(text: &str) -> Vec<String> {
    show(&ask(text, &["linux/amd64"], None, &[]).unwrap())
}

fn show(found: &Bases) -> Vec<String> {
    let mut lines = Vec::new();
    for base in &found.bases {
        for each in &base.uses {
            let platform = each.platform.as_ref().map_or("worker".to_owned(), ToString::to_string);
            let name = each.image.to_string();
            let name = name.trim_start_matches("docker.io/library/");
            lines.push(format!("{} {:?} {}={name}@{platform}", base.line, base.kind, base.token));
        }
    }
    lines
}

fn error(text: &str) -> String {
    ask(text, &["linux/amd64"], None, &[]).unwrap_err().to_string()
}

#[test]
fn kubo() {
    let found = ask(KUBO, &["linux/amd64", "linux/arm64"], None, &[]).unwrap();
    assert_eq!(
        show(&found),
        [
            "1 Syntax docker/dockerfile:1=docker.io/docker/dockerfile:1@worker",
            "1 Syntax docker/dockerfile:1=docker.io/docker/dockerfile:1@worker",
            "3 From golang:1.21=golang:1.21@worker",
            "3 From golang:1.21=golang:1.21@worker",
            "17 From debian:stable-slim=debian:stable-slim@linux/amd64",
            "17 From debian:stable-slim=debian:stable-slim@linux/arm64",
            "21 From busybox:stable-glibc=busybox:stable-glibc@linux/amd64",
            "21 From busybox:stable-glibc=busybox:stable-glibc@linux/arm64",
        ]
    );
    assert_eq!(found.warnings, [""; 0]);
    let builder = ask(KUBO, &["linux/arm64"], Some("Builder"), &[]).unwrap();
    assert_eq!(show(&builder).len(), 2);
}

#[test]
fn only_what_the_target_needs() {
    let text = "FROM a AS one\nFROM b AS two\nCOPY --from=ONE / /\nFROM c\nFROM two AS last\nFROM d AS unused\n\
                RUN --mount=from=last true\nFROM scratch\nCOPY --from=3 / /\n";
    assert_eq!(one(text), ["1 From a=a:latest@linux/amd64", "2 From b=b:latest@linux/amd64"]);
    let found = ask(text, &["linux/amd64"], Some("unused"), &[]).unwrap();
    assert_eq!(show(&found).len(), 3);
}

#[test]
fn images_beside_from() {
    let text = "FROM scratch AS s\nFROM scratch\nCOPY --from=nginx:1 /a /b\nCOPY --chown=1:1 --from=\"x/y\" --link a b\n\
                COPY --from=s c d\nCOPY --from=scratch e f\nADD --from=no g h\n\
                RUN --mount=type=bind,from=golang,target=/go --mount=type=cache,target=/c \\\n  \
                --mount=from=s,target=/s --mount=type=bind,source=golang,\\\n# from=no\nfrom=rust:1 make\n\
                ONBUILD COPY --from=nope / /\n";
    assert_eq!(
        one(text),
        [
            "3 CopyFrom nginx:1=nginx:1@linux/amd64",
            "4 CopyFrom x/y=docker.io/x/y:latest@linux/amd64",
            "8 MountFrom golang=golang:latest@linux/amd64",
            "11 MountFrom rust:1=rust:1@linux/amd64",
        ]
    );
}

#[test]
fn an_image_beside_from_is_of_the_target_even_in_a_stage_of_the_worker() {
    let text = "FROM --platform=$BUILDPLATFORM go\nCOPY --from=alpine / /\n";
    assert_eq!(one(text), ["1 From go=go:latest@worker", "2 CopyFrom alpine=alpine:latest@linux/amd64"]);
}

#[test]
fn arguments_are_put_in_per_job() {
    let text = "ARG V=1.21 DISTRO=\"bookworm\"\nARG FULL=golang:${V}-${DISTRO}\nARG UNSET\n\
                FROM base-$TARGETARCH AS unused\nFROM $FULL AS base-amd64\nFROM ${UNSET:-busybox}:${TARGETVARIANT:+arm-}x AS base-arm\n\
                FROM base-${TARGETARCH}\nARG V=2\nFROM base-$TARGETARCH\n";
    let found = ask(text, &["linux/amd64", "linux/arm/v7"], None, &[]).unwrap();
    assert_eq!(
        show(&found),
        [
            "5 From $FULL=golang:1.21-bookworm@linux/amd64",
            "6 From ${UNSET:-busybox}:${TARGETVARIANT:+arm-}x=busybox:arm-x@linux/arm/v7",
        ]
    );
    let found = ask(text, &["linux/amd64"], None, &[("V", "1.22"), ("NOT_DECLARED", "x")]).unwrap();
    assert_eq!(show(&found), ["5 From $FULL=golang:1.22-bookworm@linux/amd64"]);
    assert_eq!(one("ARG A=a\\ b\nARG B='x'y\nFROM $B\n"), ["3 From $B=xy:latest@linux/amd64"]);
    assert_eq!(one("ARG TARGETARCH\nFROM x:$TARGETARCH\n"), ["2 From x:$TARGETARCH=x:amd64@linux/amd64"]);
    let overridden = ask("FROM x:$TARGETARCH\n", &["linux/386"], None, &[("TARGETARCH", "z")]).unwrap();
    assert_eq!(show(&overridden), ["1 From x:$TARGETARCH=x:z@linux/386"]);
}

#[test]
fn platforms_of_stages() {
    for (flag, want) in [
        ("$BUILDPLATFORM", "worker"),
        ("${BUILDPLATFORM:-linux/amd64}", "worker"),
        ("\"$BUILDPLATFORM\"", "worker"),
        ("$P", "worker"),
        ("$TARGETPLATFORM", "linux/arm/v7"),
        ("linux/amd64", "linux/amd64"),
        ("linux/${TARGETARCH}/v6", "linux/arm/v6"),
        ("linux/$BUILDARCH", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
    ] {
        let text = format!("ARG P=$BUILDPLATFORM\nFROM --platform={flag} a\n");
        let found = ask(&text, &["linux/arm/v7"], None, &[]).unwrap();
        assert_eq!(show(&found), [format!("2 From a=a:latest@{want}")], "{flag}");
    }
    let named = ask("FROM x:$BUILDARCH\n", &["linux/386"], None, &[]).unwrap();
    assert_eq!(show(&named), ["1 From x:$BUILDARCH=x:amd64@linux/386"]);
}

#[test]
fn what_parsers_stumble_over() {
    for (text, want) in [
        ("\u{feff}from a as B\nfrom scratch\ncopy --from=b / /\n", "1 From a=a:latest@linux/amd64"),
        ("# escape=`\nFROM `\n  a\nRUN x \\\n", "3 From a=a:latest@linux/amd64"),
        ("FROM a\nRUN cat <<EOF >f\nFROM b\nEOF\nRUN true\n", "1 From a=a:latest@linux/amd64"),
        ("FROM a\nCOPY <<one <<two /d/\nFROM b\none\nFROM c\ntwo\n", "1 From a=a:latest@linux/amd64"),
        ("FROM a\nRUN --security=insecure --unknown x\n", "1 From a=a:latest@linux/amd64"),
        ("FROM a AS x\nFROM b AS x\nFROM x\n", "2 From b=b:latest@linux/amd64"),
        ("FROM a\r\nENV x=C:\\\\\r\nRUN y\r\n", "1 From a=a:latest@linux/amd64"),
        ("FROM a # no comment", ""),
    ] {
        match ask(text, &["linux/amd64"], None, &[]) {
            Ok(found) => assert_eq!(show(&found), [want]),
            Err(error) => assert_eq!(want, "", "{error}"),
        }
    }
}

#[test]
fn errors_name_the_line_and_the_remedy() {
    for (text, want) in [
        ("", "Dockerfile:1: expected at least one FROM"),
        ("FROM a\nFORM b\n", "Dockerfile:2: unknown instruction 'FORM': did you mean FROM?"),
        ("RUN x\nFROM a\n", "Dockerfile:1: expected FROM: only ARG may stand above the first FROM"),
        ("FROM a b\n", "Dockerfile:1: expected AS: write FROM IMAGE, or FROM IMAGE AS NAME"),
        ("FROM --platfrom=x a\n", "Dockerfile:1: FROM has no flag --platfrom; did you mean --platform=?"),
        (
            "FROM a AS build\nFROM a\nCOPY --from=Biuld / /\n",
            "Dockerfile:3: from=Biuld: no stage has this name (did you mean build?), and as image \"Biuld\": ",
        ),
        (
            "\nFROM ${BASE}\n",
            "Dockerfile:2: FROM ${BASE} names no image: BASE is not declared; add ARG BASE=VALUE above the first FROM",
        ),
        (
            "ARG BASE\nFROM ${BASE}\n",
            "Dockerfile:2: FROM ${BASE} names no image: ARG BASE has no value; pass --build-arg BASE=...",
        ),
        (
            "FROM a:$V\n",
            "Dockerfile:1: FROM a:$V reads \"a:\", which names no image: V is not declared; add ARG V=VALUE above",
        ),
        (
            "FROM a\nARG V=1\nRUN x\nFROM b:${V}\n",
            "Dockerfile:4: FROM b:${V} reads \"b:\", which names no image: ARG V in line 2 is after the first FROM and \
             only counts in its own stage; move it above the first FROM",
        ),
        ("ARG V\nFROM a:$V\n", "Dockerfile:2: a:$V is image \"a:\": "),
        (
            "FROM $TARGETVARIANT\n",
            "Dockerfile:1: FROM $TARGETVARIANT names no image: TARGETVARIANT is empty for linux/amd64",
        ),
        ("FROM a AS ${N}\n", "Dockerfile:1: AS ${N}: variables are not expanded in a stage's name"),
        ("FROM a AS 1st\n", "Dockerfile:1: AS 1st: a stage's name begins with a letter"),
        ("FROM a AS a/b\n", "Dockerfile:1: AS a/b: a stage's name begins with a letter"),
        (
            "FROM a\nCOPY --from=-1 / /\n",
            "Dockerfile:2: --from=-1: there is no such stage; stages count from 0",
        ),
        (
            "FROM a\nCOPY --from=99999999999999999999999 / /\n",
            "Dockerfile:2: --from=99999999999999999999999: there is no such stage",
        ),
        ("FROM a AS b\nCOPY --from=b / /\n", "Dockerfile:1: stage \"b\" needs itself"),
        ("FROM a\nCOPY --from=0 / /\n", "Dockerfile:1: stage \"0\" needs itself"),
        ("FROM A/b\n", "Dockerfile:1: image \"A/b\": "),
        ("ARG X=${\nFROM a\n", "Dockerfile:1: ARG X: "),
        ("FROM a\nRUN <<E\n", "Dockerfile:2: a here-document never ends; add a line with just \"E\""),
        ("FROM --platform=linux/amd46 a\n", "Dockerfile:1: --platform \"linux/amd46\": "),
        (
            "FROM --platform=$P a\n",
            "Dockerfile:1: --platform=$P is empty: P is not declared; add ARG P=VALUE above the first FROM",
        ),
        (
            "FROM a\nCOPY --from=9 / /\n",
            "Dockerfile:2: --from=9: there is no such stage; stages count from 0, and the last is 0",
        ),
        ("FROM a\nCOPY --from=$X / /\n", "Dockerfile:2: --from=$X: variables are not expanded here; "),
        (
            "FROM a\nRUN --mount=from=$X x\n",
            "Dockerfile:2: --mount from=\"$X\": variables are not expanded here; ",
        ),
        ("# syntax=A\nFROM a\n", "Dockerfile:1: image \"A\": "),
    ] {
        let error = error(text);
        assert!(error.starts_with(want), "{text:?}: {error}");
    }
    let error = ask(KUBO, &["linux/amd64"], Some("bulider"), &[]).unwrap_err().to_string();
    assert_eq!(error, "--target \"bulider\": the Dockerfile has no such stage; it has builder, utilities");
}

#[test]
fn a_passed_argument_that_is_not_declared_is_named() {
    let error = ask("FROM a:$V\n", &["linux/amd64"], None, &[("V", "1")]).unwrap_err().to_string();
    let want = "Dockerfile:1: FROM a:$V reads \"a:\", which names no image: --build-arg V is passed, but V is not declared; \
                add ARG V above the first FROM";
    assert_eq!(error, want);
}

#[test]
fn an_undeclared_argument_that_leaves_a_name_is_a_warning() {
    let found = ask("FROM a$V\nARG V=1\nFROM b$V\n", &["linux/amd64", "linux/386"], None, &[]).unwrap();
    assert_eq!(
        found.warnings,
        [
            "Dockerfile:3: FROM b$V: a variable is empty: ARG V in line 2 is after the first FROM and only counts in its own \
             stage; move it above the first FROM"
        ]
    );
    for text in ["ARG V\nFROM a$V\n", "FROM a${V:-}\n", "FROM a$TARGETVARIANT\n", "FROM 'a'\n"] {
        assert_eq!(ask(text, &["linux/amd64"], None, &[]).unwrap().warnings, [""; 0], "{text}");
    }
}

/// Whoever writes a Dockerfile must not be able to keep a scheduler busy with it.
#[test]
fn a_hostile_file_ends_soon() {
    let mut laughs = String::from("ARG A0=ha\n");
    for n in 1..64 {
        laughs.push_str(&format!("ARG A{n}=$A{}$A{}\n", n - 1, n - 1));
    }
    assert!(error(&(laughs + "FROM a\n")).contains("grows past"));
    let many: String = (0..50_000).map(|n| format!("FROM scratch AS s{n}\n")).collect();
    assert_eq!(one(&many), [""; 0]);
    let chain: String = (0..20_000).map(|n| format!("FROM s{n} AS s{}\n", n + 1)).collect();
    assert_eq!(one(&chain), ["1 From s0=s0:latest@linux/amd64"]);
}

#[test]
fn a_foreign_frontend_may_have_its_own_words() {
    let text = "# syntax=example.com/own:1\nINCLUDE x\n";
    let found = ask(text, &["linux/amd64"], None, &[]).unwrap();
    assert_eq!(show(&found), ["1 Syntax example.com/own:1=example.com/own:1@worker"]);
    assert!(found.warnings[0].contains("not locked"), "{:?}", found.warnings);
    let passed = ask("# syntax=a\nFROM b\n", &["linux/amd64"], None, &[("BUILDKIT_SYNTAX", "c")]).unwrap();
    assert_eq!(show(&passed), ["2 From b=b:latest@linux/amd64"]);
    assert_eq!(passed.warnings.len(), 1);
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    /// Pieces that mean something, in any order.
    #[test]
    fn never_panics_on_near_misses(pieces in proptest::collection::vec(prop_oneof![
        Just("FROM "), Just("\nFROM "), Just("a"), Just(" AS b"), Just("\nCOPY "), Just("--from="), Just("\nRUN "),
        Just("--mount="), Just("from="), Just(","), Just("\""), Just("'"), Just("\\\n"), Just("\\"), Just("`"), Just("\r\n"),
        Just("\n# x\n"), Just("<<E"), Just("<<-"), Just("\nE\n"), Just("["), Just("]"), Just("${"), Just("}"), Just("$a"),
        Just(":-"), Just("\nARG a="), Just(" "), Just("\t"), Just("\u{feff}"), Just("# syntax="), Just("# escape=`\n"),
        Just("\nONBUILD "), Just("\nHEALTHCHECK "), Just("CMD"), Just("☺"), Just("--platform="), Just("\nADD "), Just("\nSHELL "),
    ], 0..40)) {
        check(pieces.concat().as_bytes())?;
    }
}

/// Spans lie within the file, in order, on their line, and are their tokens.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (platforms, build_args) = (platforms(&["linux/amd64", "linux/arm/v7"]), BTreeMap::new());
    let cross = &[1].into();
    let crossing =
        Question { name: "x", platforms: &platforms, cross, target: None, build_args: &build_args };
    let question = Question { cross: &BTreeSet::new(), ..crossing };
    let refused = bases(bytes, &crossing).is_err();
    prop_assert!(refused || bases(bytes, &question).is_ok(), "more is allowed across than at home");
    let Ok(found) = bases(bytes, &question) else { return Ok(()) };
    let mut end = 0;
    for base in found.bases {
        prop_assert!(end <= base.span.start && base.span.start < base.span.end);
        end = base.span.end;
        let span = usize::try_from(base.span.start).unwrap()..usize::try_from(base.span.end).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&bytes[span.clone()]), base.token.as_str());
        let line = bytes[..span.start].iter().filter(|byte| **byte == b'\n').count() + 1;
        prop_assert_eq!(line, base.line as usize);
    }
    Ok(())
}
