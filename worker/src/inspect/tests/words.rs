//! What the words of a command mean to those who look them up: runtimes, `env` and shells.

use archyard_model::Checks;

use super::super::Config;
use super::super::testing::{AMD64, ARM64, Layer, Program, judged, running};
use super::{fails, layer, passes};

#[test]
fn a_command_by_a_relative_part_of_path_is_run_by_nobody_but_programs() {
    let config = |path: &str, words: &[&str]| Config {
        working_dir: "/srv".to_owned(),
        env: vec![format!("PATH={path}")],
        ..running(words)
    };
    let layers = [layer().program("srv/app", AMD64).program("srv/sub/app", AMD64).program("bin/app", AMD64)];
    for (path, part) in [(":/bin", "\".\""), ("/usr/bin:sub:/bin", "\"sub\""), ("./sub", "\"./sub\"")] {
        let failure = judged(config(path, &["app"]), &layers, &Checks::default()).unwrap_err();
        assert_eq!(failure.code, "command_relative_path", "{failure}");
        assert!(failure.message.contains(part) && failure.message.contains("absolute"), "{failure}");
    }
    for (path, word) in [("/bin:", "app"), ("gone:/bin", "app"), (":", "./app")] {
        judged(config(path, &[word]), &layers, &Checks::default()).unwrap();
    }
    let failure = judged(config("", &["app"]), &layers, &Checks::default()).unwrap_err();
    assert_eq!(failure.code, "command_not_found", "{failure}");
    // What env and shells look up, they run.
    let script = layer().file("run", 0o755, b"#!/env app\n").program("env", AMD64).program("srv/app", AMD64);
    let verdict = judged(config("", &["/run"]), &[script], &Checks::default());
    assert_eq!(verdict.unwrap_err().code, "interpreter_not_found");
    let script = layer().file("run", 0o755, b"#!/env app\n").program("env", AMD64).program("srv/app", AMD64);
    judged(config(":/bin", &["/run"]), &[script], &Checks::default()).unwrap();
    let shell = layer().program("bin/sh", AMD64).program("srv/app", AMD64);
    let verdict = judged(config(":/bin", &["/bin/sh", "-c", "app"]), &[shell], &Checks::default()).unwrap();
    assert!(verdict.warnings.is_empty(), "{:?}", verdict.warnings);
}

#[test]
fn what_a_shell_runs_is_held_against_the_platform_where_that_is_plain() {
    let shell = || layer().program("bin/sh", AMD64);
    let warnings = |script: &str, layers: &[Layer]| passes(&["/bin/sh", "-c", script], layers).warnings;
    assert!(warnings("cd /x && ./nope", &[shell()]).is_empty());
    assert!(warnings("/bin/sh -x", &[shell()]).is_empty());
    let busybox = || layer().program("bin/busybox", AMD64).symlink("bin/sh", "busybox");
    let foreign = || layer().program("app", ARM64).symlink("usr/bin/app", "/app");
    for shell in [shell(), busybox()] {
        let layers = [shell, foreign()];
        for script in ["/app --serve", "exec /app \"$@\"", "app $PORT", "./app"] {
            let says = ["Dockerfile:3: ", "made for aarch64", "x86-64"];
            fails(&["/bin/sh", "-c", script], &layers, "command_foreign", &says);
        }
        let found = warnings("/app --check || true", &layers);
        assert!(found[0].message.contains("made for aarch64"), "{found:?}");
        assert_eq!(found[0].line, Some(4));
    }
    let dynamic = layer().program("app", Program { loader: Some("/lib/ld.so"), ..AMD64 });
    fails(&["/bin/sh", "-c", "/app"], &[shell(), dynamic], "loader_not_found", &["/lib/ld.so"]);
    fails(&["/bin/sh", "-c", "/nope x"], &[shell()], "command_not_found", &["/nope"]);
    assert_eq!(warnings("nope", &[shell()]).len(), 1);
    assert!(warnings("httpd -f", &[busybox()]).is_empty());
    let text = layer().file("run", 0o755, b"echo hello\n");
    assert!(warnings("/run", &[shell(), text]).is_empty());
    fails(&["/bin/sh", "-c", "true"], &[layer()], "command_not_found", &["/bin/sh"]);
}
