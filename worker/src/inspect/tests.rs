//! Images of hand-made layers, good and bad, one row a way to be wrong.

mod layers;
mod users;
mod words;

use archyard_model::{Checks, ForeignPolicy};

use super::testing::{AMD64, ARM64, Layer, Program, judged, running};
use super::{Config, Verdict};

/// Judges, with the default checks.
fn judge(words: &[&str], layers: &[Layer]) -> Result<Verdict, archyard_model::Failure> {
    judged(running(words), layers, &Checks::default())
}

#[track_caller]
fn passes(words: &[&str], layers: &[Layer]) -> Verdict {
    judge(words, layers).unwrap_or_else(|failure| panic!("{}: {failure}", failure.code))
}

#[track_caller]
fn fails(words: &[&str], layers: &[Layer], code: &str, says: &[&str]) {
    let failure = judge(words, layers).unwrap_err();
    assert_eq!(failure.code, code, "{failure}");
    for part in says {
        assert!(failure.message.contains(part), "{failure} lacks {part}");
    }
    assert!(!failure.message.contains('\n'));
}

fn layer() -> Layer {
    Layer::default()
}

#[test]
fn a_command_is_found_as_runtimes_find_it() {
    let command = |words: &[&str], layers: &[Layer]| passes(words, layers).inspection.command.unwrap();
    let plain = [layer().program("app", AMD64)];
    assert_eq!(command(&["/app", "x"], &plain), "/app");
    assert_eq!(command(&["./app"], &plain), "/app");
    assert_eq!(passes(&["/app"], &plain).inspection.machine.as_deref(), Some("x86-64"));
    assert!(passes(&["/app"], &plain).warnings.is_empty());

    let in_path = [layer().file("usr/bin/app", 0o644, b"no program").program("bin/app", AMD64)];
    assert_eq!(command(&["app"], &in_path), "/bin/app");

    let linked = [
        layer().program("opt/real", AMD64).symlink("bin", "/usr/bin").folder("usr/bin"),
        layer().symlink("usr/bin/app", "../lib/app").symlink("usr/lib/app", "/opt/../../opt/./real"),
        layer().hard_link("hard", "usr/bin/app").hard_link("harder", "/opt/real"),
    ];
    for name in ["app", "/bin/app", "/usr/lib/app"] {
        assert_eq!(command(&[name], &linked), "/opt/real");
    }
    assert_eq!(command(&["/harder"], &linked), "/harder");

    let relative = Config { working_dir: "/srv".to_owned(), ..running(&["bin/app"]) };
    let verdict = judged(relative, &[layer().program("srv/bin/app", AMD64)], &Checks::default()).unwrap();
    assert_eq!(verdict.inspection.command.as_deref(), Some("/srv/bin/app"));
    let both = Config { entrypoint: vec!["/app".to_owned()], ..running(&["ignored"]) };
    assert!(judged(both, &plain, &Checks::default()).is_ok());
}

#[test]
fn a_command_that_is_not_there() {
    let app = || layer().program("bin/app", AMD64);
    fails(&["/nope"], &[app()], "command_not_found", &["Dockerfile:3: ", "\"/nope\"", "COPY"]);
    fails(&["nope"], &[app()], "command_not_found", &["PATH=/usr/bin:/bin"]);
    fails(&[""], &[app()], "command_not_found", &["\"\""]);
    for name in ["/app/", "/app/."] {
        fails(&[name], &[layer().program("app", AMD64)], "command_no_file", &["no folder"]);
    }
    fails(&["/bin/app/x"], &[app()], "command_no_file", &["no folder"]);
    fails(&["/bin"], &[app()], "command_no_file", &["a folder"]);
    fails(&["/bin/app"], &[app(), layer().file("bin/.wh.app", 0o644, b"")], "command_not_found", &[]);
    fails(&["/bin/app"], &[app(), layer().file(".wh.bin", 0o644, b"")], "command_not_found", &[]);
    fails(&["/bin/app"], &[app(), layer().file("bin/.wh..wh..opq", 0o644, b"")], "command_not_found", &[]);
    fails(&["/bin/app"], &[app(), layer().file("bin", 0o644, b"")], "command_no_file", &[]);
    fails(
        &["app"],
        &[layer().symlink("bin/app", "/opt/app")],
        "command_dangling_link",
        &["Dockerfile:2: ", "/bin/app", "\"/opt/app\""],
    );
    fails(
        &["/a"],
        &[layer().symlink("a", "b").symlink("b", "a")],
        "command_link_loop",
        &["Dockerfile:2: ", "leads back to itself"],
    );
    fails(&["/a"], &[layer().symlink("a", "a")], "command_link_loop", &["/a"]);
    let device = layer().entry(tar::EntryType::Char, "dev/x", 0o777, "", b"");
    fails(&["/dev/x"], &[device], "command_no_file", &["a device"]);
    fails(&["/x"], &[layer().hard_link("x", "gone")], "command_no_file", &["hard link"]);
    fails(&["/x"], &[layer().hard_link("x", "x")], "command_no_file", &["hard link"]);
}

#[test]
fn a_link_beside_something_missing_is_not_blamed() {
    let layers = [layer().symlink("lib", "usr/lib").folder("usr/lib")];
    fails(&["/lib/app"], &layers, "command_not_found", &["\"/lib/app\" is not in the image"]);
    let layers = [layer().symlink("lib", "usr/lib")];
    fails(&["/lib/app"], &layers, "command_dangling_link", &["/lib"]);
}

#[test]
fn a_file_that_cannot_be_executed() {
    let whole = AMD64.bytes();
    for (content, mode, code, says) in [
        (whole.clone(), 0o644, "command_not_executable", "--chmod=755"),
        (b"echo hello\n".to_vec(), 0o755, "command_no_program", "exec format error"),
        (Vec::new(), 0o755, "command_no_program", "is empty"),
        (whole[..40].to_vec(), 0o755, "command_broken_program", "cut off"),
        (b"#!\n".to_vec(), 0o755, "command_no_program", "no interpreter"),
        (ARM64.bytes(), 0o755, "command_foreign", "is made for aarch64, and the image is for x86-64"),
    ] {
        let layers = [layer().folder("etc"), layer().file("app", mode, &content)];
        fails(&["/app"], &layers, code, &["Dockerfile:3: ", "\"/app\"", says]);
    }
}

#[test]
fn programs_whose_headers_are_absurd() {
    let patched = |patches: &[(usize, &[u8])]| {
        let mut bytes = AMD64.bytes();
        for (at, with) in patches {
            bytes[*at..at + with.len()].copy_from_slice(with);
        }
        bytes
    };
    let dynamic = Program { loader: Some("/lib/ld.so"), ..AMD64 }.bytes();
    let unended = dynamic[..dynamic.len() - 1].iter().copied().chain([b'x']).collect();
    let broken: [(Vec<u8>, &str); 9] = [
        (patched(&[(32, &[0xff; 8])]), "program headers lie beyond"),
        (patched(&[(32, &[0xf0; 7])]), "program headers lie beyond"),
        (patched(&[(56, &[0xff, 0xff])]), "65535 program headers"),
        (patched(&[(56, &[0, 0])]), "no program headers"),
        (patched(&[(54, &[1, 0])]), "another size"),
        (patched(&[(4, &[9])]), "class 9"),
        (patched(&[(5, &[7])]), "no known version"),
        (patched(&[(64 + 32, &[0xff; 8])]), "cut off"),
        (unended, "does not end"),
    ];
    for (content, says) in broken {
        fails(&["/app"], &[layer().file("app", 0o755, &content)], "command_broken_program", &[says]);
    }
    let unknown = Program { machine: 0xbeef, ..AMD64 };
    fails(&["/app"], &[layer().program("app", unknown)], "command_foreign", &["machine 0xbeef"]);
    let x32 = Program { is_64_bit: false, ..AMD64 };
    fails(&["/app"], &[layer().program("app", x32)], "command_foreign", &["x32", "x86-64"]);
    let object = patched(&[(16, &[1, 0])]);
    fails(&["/app"], &[layer().file("app", 0o755, &object)], "command_no_program", &["no program"]);
}

/// Linkers put the offset of a segment that is all zeroes wherever they like.
#[test]
fn a_segment_that_takes_nothing_from_the_file_may_begin_beyond_its_end() {
    let mut bytes = Program { loader: Some("/lib/ld.so"), ..AMD64 }.bytes();
    let second = 64 + 56;
    bytes[second..second + 4].copy_from_slice(&1_u32.to_le_bytes());
    bytes[second + 8..second + 16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    fails(&["/app"], &[layer().file("app", 0o755, &bytes)], "command_broken_program", &["cut off"]);
    bytes[second + 32..second + 40].copy_from_slice(&[0; 8]);
    passes(&["/app"], &[layer().file("app", 0o755, &bytes)]);
}

#[test]
fn headers_at_the_end_of_a_large_file_are_found() {
    let short = Program { loader: Some("/lib/ld.so"), ..AMD64 }.bytes();
    let (header, rest) = short.split_at(64);
    let far = 300_000_u64;
    let mut file = header.to_vec();
    file[32..40].copy_from_slice(&far.to_le_bytes());
    file.resize(300_000, 0);
    file.extend(rest);
    // The loader's name lies behind the two headers.
    let name = far + 2 * 56;
    let at = 300_000 + 56 + 8;
    file[at..at + 8].copy_from_slice(&name.to_le_bytes());
    let layers = [layer().file("app", 0o755, &file)];
    fails(&["/app"], &layers, "loader_not_found", &["\"/lib/ld.so\"", "/app"]);
    // Where it lies between what was kept, it is not known.
    file[at..at + 8].copy_from_slice(&100_000_u64.to_le_bytes());
    let verdict = passes(&["/app"], &[layer().file("app", 0o755, &file)]);
    assert!(verdict.warnings[0].message.contains("which dynamic loader"), "{:?}", verdict.warnings);
}

#[test]
fn a_loader_is_there_and_of_its_programs_machine() {
    let dynamic = Program { loader: Some("/lib64/ld.so"), ..AMD64 };
    let app = || layer().program("app", dynamic);
    passes(&["/app"], &[app(), layer().program("usr/lib/ld.so", AMD64).symlink("lib64", "usr/lib")]);
    fails(
        &["/app"],
        &[app()],
        "loader_not_found",
        &["Dockerfile:2: ", "\"/lib64/ld.so\"", "/app", "C library"],
    );
    fails(
        &["/app"],
        &[app(), layer().program("lib64/ld.so", ARM64)],
        "loader_foreign",
        &["Dockerfile:3: ", "aarch64", "x86-64"],
    );
    fails(&["/app"], &[app(), layer().file("lib64/ld.so", 0o755, b"x")], "loader_no_program", &[]);
    fails(
        &["/app"],
        &[app(), layer().file("lib64/ld.so", 0o644, &AMD64.bytes())],
        "loader_not_executable",
        &[],
    );
    fails(&["/app"], &[app(), layer().symlink("lib64/ld.so", "/x")], "loader_dangling_link", &[]);
}

#[test]
fn scripts_are_followed_to_their_interpreters() {
    let script = |line: &str| layer().file("app", 0o755, format!("{line}\necho\n").as_bytes());
    let shell = || {
        layer()
            .program("bin/busybox", AMD64)
            .symlink("bin/sh", "busybox")
            .symlink("usr/bin/env", "../../bin/busybox")
    };
    let verdict = passes(&["/app"], &[script("#!/bin/sh -e"), shell()]);
    assert_eq!(verdict.inspection.command.as_deref(), Some("/app"));
    assert_eq!(verdict.inspection.machine.as_deref(), Some("x86-64"));
    for line in ["#!/usr/bin/env sh", "#! /usr/bin/env -S sh -e", "#!/usr/bin/env -S A=1 sh"] {
        assert!(passes(&["/app"], &[script(line), shell()]).warnings.is_empty(), "{line}");
    }
    assert_eq!(passes(&["/app"], &[script("#!/usr/bin/env -i sh"), shell()]).warnings.len(), 1);
    // Busybox' env knows programs that are no files.
    assert_eq!(passes(&["/app"], &[script("#!/usr/bin/env ash"), shell()]).warnings.len(), 1);

    let missing = ["/app", "\"/bin/bash\"", "first line"];
    fails(&["/app"], &[script("#!/bin/bash"), shell()], "interpreter_not_found", &missing);
    fails(
        &["/app"],
        &[script("#!/bin/sh"), layer().program("bin/sh", ARM64)],
        "interpreter_foreign",
        &["Dockerfile:3: ", "aarch64"],
    );
    let own_env = || layer().program("usr/bin/env", AMD64).program("bin/sh", AMD64);
    fails(&["/app"], &[script("#!/usr/bin/env node"), own_env()], "interpreter_not_found", &["\"node\""]);
    fails(&["/app"], &[script("#!/usr/bin/env sh -e"), own_env()], "interpreter_env_words", &["env -S"]);
    fails(&["/app"], &[script("#!/bin/sh\r"), shell()], "interpreter_carriage_return", &["line feeds"]);
    for line in ["#!/bin/sh -e\r", "#!/bin/sh \r", "#! /bin/sh\t-eu\r"] {
        fails(
            &["/app"],
            &[script(line), shell()],
            "interpreter_carriage_return",
            &["\"/bin/sh\"", "the script /app", "carriage return", "line feeds"],
        );
    }
    fails(&["/app"], &[script("#!/app")], "interpreter_too_deep", &["further than Linux"]);
    // What env runs begins anew, but goes in no circles.
    let env = || layer().program("bin/env", AMD64).program("bin/sh", AMD64);
    let chain = (1..9).fold(env(), |layer, number| {
        layer.file(&format!("bin/s{number}"), 0o755, format!("#!/bin/env s{}\n", number + 1).as_bytes())
    });
    passes(&["s1"], &[chain.file("bin/s9", 0o755, b"#!/bin/sh\n")]);
    let circle = env().file("bin/s", 0o755, b"#!/bin/env s\n");
    fails(&["s"], &[circle], "interpreter_too_deep", &["further than Linux"]);
    let chain = (1..5).fold(layer(), |layer, number| {
        layer.file(&format!("s{number}"), 0o755, format!("#!/s{}\n", number + 1).as_bytes())
    });
    passes(&["/s1"], &[chain.file("s5", 0o755, b"#!/bin/sh\n"), shell()]);
}

#[test]
fn the_config_names_what_was_asked_for() {
    let layers = || [layer().program("app", AMD64)];
    let judge = |os: &str, architecture: &str, variant: &str| {
        let config = Config {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..running(&["/app"])
        };
        judged(config, &layers(), &Checks::default())
            .map_err(|failure| (failure.code.clone(), failure.message))
    };
    assert!(judge("linux", "amd64", "").is_ok() && judge("linux", "amd64", "v1").is_ok());
    for (os, architecture, variant, code, says) in [
        ("linux", "", "", "image_without_platform", "architecture"),
        ("", "amd64", "", "image_without_platform", "os"),
        ("linux", "arm64", "v8", "image_wrong_platform", "linux/arm64/v8"),
        ("windows", "amd64", "", "image_wrong_platform", "windows/amd64"),
        ("linux", "amd64", "v3", "image_wrong_platform", "linux/amd64/v3"),
        ("linux", "x\u{1b}[2J", "", "image_wrong_platform", "linux"),
    ] {
        let (found, message) = judge(os, architecture, variant).unwrap_err();
        assert_eq!(found, code);
        assert!(
            message.contains(says)
                && message.contains(if code.ends_with("wrong_platform") {
                    "linux/amd64 was"
                } else {
                    "linux/amd64"
                }),
            "{message}"
        );
    }
}

#[test]
fn an_image_that_runs_nothing_says_so() {
    let layers = [layer().file("data", 0o644, b"x")];
    fails(&[], &layers, "no_command", &["CMD", "ENTRYPOINT", "--data-only", "linux/amd64"]);
    let checks = Checks { data_only: true, ..Checks::default() };
    assert_eq!(judged(running(&[]), &layers, &checks).unwrap(), Verdict::default());
    // What it names all the same is looked at, but nobody means to run it.
    let verdict = judged(running(&["/nope"]), &layers, &checks).unwrap();
    assert!(verdict.warnings[0].message.contains("\"/nope\" is not in the image"), "{verdict:?}");
    assert_eq!(verdict.inspection.command, None);
}

#[test]
fn more_than_the_platform_promises_is_told() {
    let modern = Program { levels: 0b111, ..AMD64 };
    let verdict = passes(&["/app"], &[layer().program("app", modern)]);
    assert_eq!(verdict.inspection.requires.as_deref(), Some("x86-64-v3"));
    assert!(verdict.warnings[0].message.contains("Dockerfile:2: /app needs a processor with x86-64-v3"));
    let by_loader = Program { loader: Some("/ld.so"), ..AMD64 };
    let verdict = passes(&["/app"], &[layer().program("app", by_loader).program("ld.so", modern)]);
    assert_eq!(verdict.inspection.requires.as_deref(), Some("x86-64-v3"));
    assert_eq!(
        passes(&["/app"], &[layer().program("app", Program { levels: 1, ..AMD64 })]).inspection.requires,
        None
    );
}

#[test]
fn executables_of_other_machines_are_listed() {
    let layers = || {
        [
            layer().program("app", AMD64).file("lib/a.so", 0o644, &ARM64.bytes()),
            (0..150).fold(layer(), |layer, number| layer.program(&format!("opt/x/{number:03}"), ARM64)),
        ]
    };
    let checks = |foreign, globs: &[&str]| Checks {
        foreign,
        foreign_allow: globs.iter().map(|glob| (*glob).to_owned()).collect(),
        ..Checks::default()
    };
    let judge = |checks: &Checks| judged(running(&["/app"]), &layers(), checks);
    let verdict = judge(&checks(ForeignPolicy::Warn, &[])).unwrap();
    assert_eq!((verdict.inspection.foreign_files, verdict.inspection.foreign.len()), (150, 100));
    assert_eq!(verdict.inspection.foreign[0].path, "/opt/x/000");
    assert!(verdict.warnings[0].message.contains("and 147 more"), "{:?}", verdict.warnings);
    assert_eq!(judge(&checks(ForeignPolicy::Allow, &[])).unwrap().inspection.foreign_files, 0);
    assert_eq!(judge(&checks(ForeignPolicy::Deny, &["/opt/**"])).unwrap().inspection.foreign_files, 0);
    assert_eq!(judge(&checks(ForeignPolicy::Warn, &["/opt/*"])).unwrap().inspection.foreign_files, 150);
    let failure = judge(&checks(ForeignPolicy::Deny, &[])).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.detail.lines().count()), ("foreign_executables", 100));
    assert_eq!(judge(&checks(ForeignPolicy::Warn, &["[x"])).unwrap_err().code, "foreign_allow_malformed");
}
