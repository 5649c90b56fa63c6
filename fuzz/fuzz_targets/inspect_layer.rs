//! Layers of any bytes, laid over one another: reading them never panics, ends, and is the same again from what is
//! kept of them. Headers are given the checksums they lack: no fuzzer guesses them.
#![no_main]

use archyard_model::{Checks, Platform};
use archyard_worker::inspect::{Config, Index, Job, Tree, Written, judge};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let count = usize::from(first % 3) + 1;
    let length = (data.len() / count).next_multiple_of(BLOCK).max(BLOCK);
    let indexes: Vec<Index> = data.chunks(length).map(|layer| {
        let index = Index::read(repaired(layer).as_slice()).expect("memory does not fail");
        let again = Index::from_bytes(index.as_bytes().to_vec()).expect("what was written can be read");
        assert_eq!(index, again);
        again
    }).collect();
    let Ok(tree) = Tree::merge(&indexes) else { return };
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    for command in ["/a", "a", "../b/c", "/bin/sh"] {
        let config = Config {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            cmd: vec![command.to_owned(), "-c".to_owned(), "exec b".to_owned()],
            env: vec!["PATH=/bin:/a:/b/c".to_owned()],
            ..Config::default()
        };
        let written = Written { name: "Dockerfile", text: "", target: None };
        let job = Job { platform: &platform, checks: &Checks::default(), only_files: false, written };
        if let Err(failure) = judge(&config, &tree, &job) {
            assert!(!failure.message.contains('\n'), "{failure}");
        }
    }
});

/// The same with right checksums, as far as headers are where they seem to be.
fn repaired(layer: &[u8]) -> Vec<u8> {
    let mut bytes = layer.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let has_content = !matches!(block[156], b'1'..=b'6');
        let size = header.entry_size().ok().filter(|_| has_content).unwrap_or_default();
        let Some(next) = usize::try_from(size).ok().and_then(|size| size.checked_next_multiple_of(BLOCK)) else { break };
        let Some(next) = next.checked_add(at + BLOCK) else { break };
        at = next;
    }
    bytes
}
