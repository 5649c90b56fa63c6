//! A program, or a script, of any bytes: reading it never panics, and what is kept of it says the same again.
#![no_main]

use archyard_model::{Checks, Platform};
use archyard_worker::inspect::{Config, Index, Job, Tree, Written, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut header = tar::Header::new_gnu();
    header.set_path("app").expect("a short path");
    header.set_mode(0o755);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend(data);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);

    let index = Index::read(tar.as_slice()).expect("memory does not fail");
    let again = Index::from_bytes(index.as_bytes().to_vec()).expect("what was written can be read");
    assert_eq!(index, again);
    let tree = Tree::merge([&again]).expect("one file makes a tree");
    for name in ["linux/amd64", "linux/arm/v5", "linux/s390x"] {
        let platform: Platform = name.parse().expect("a platform");
        let config = Config {
            os: platform.os().to_owned(),
            architecture: platform.architecture().to_owned(),
            cmd: vec!["/app".to_owned()],
            ..Config::default()
        };
        let written = Written { name: "Dockerfile", text: "", target: None };
        let job = Job { platform: &platform, checks: &Checks::default(), only_files: false, written };
        match judge(&config, &tree, &job) {
            Ok(verdict) => assert_eq!(verdict.inspection.command.as_deref(), Some("/app")),
            Err(failure) => assert!(!failure.message.contains('\n'), "{failure}"),
        }
    }
});
