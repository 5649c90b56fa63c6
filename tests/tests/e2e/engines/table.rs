//! The table of docs/engines.md. Each cell is a test: the proof is run on that Engine, and what it comes back with
//! has to be what the cell says.

use std::fmt::Write as _;
use std::path::Path;

use xtask::engine::Kind;

use super::site::Site;
use super::{podman, proofs};

/// One line of the table.
struct Row {
    feature: &'static str,
    /// On 20.10, 26.1, and 26.1 with the containerd store.
    cells: [&'static str; 3],
}

/// A row is a feature, a cell for each kind of Engine, and under the row's name in [`proofs`] its proof.
macro_rules! table {
    ($($proof:ident: $feature:literal, [$old:literal, $new:literal, $containerd:literal];)+) => {
        const ROWS: &[Row] = &[$(Row { feature: $feature, cells: [$old, $new, $containerd] }),+];

        $(mod $proof {
            #[test]
            fn on_20_10() {
                super::hold(super::Kind::Host, $old, super::proofs::$proof);
            }

            #[test]
            fn on_26_1() {
                super::hold(super::Kind::Debian13Overlay, $new, super::proofs::$proof);
            }

            #[test]
            fn on_26_1_with_containerd_store() {
                super::hold(super::Kind::Debian13Containerd, $containerd, super::proofs::$proof);
            }
        })+
    };
}

table! {
    check: "`check`: built, nothing published", ["works", "works", "works"];
    failure: "a failure names file, line and exit code", ["works", "works", "works"];
    push: "`push`: media types", [
        "OCI, gzip layers", "OCI, gzip layers", "OCI, gzip layers"
    ];
    base_layers: "`push`: a base's layers", [
        "the same digests everywhere", "the same digests everywhere", "the same digests everywhere"
    ];
    copied_layers: "`push`: equal files copied in", [
        "the Engine's own tar, so digests of its own",
        "the same digests on either 26.1",
        "the same digests on either 26.1"
    ];
    unchanged: "`push`: unchanged layers", [
        "neither compressed nor sent again",
        "neither compressed nor sent again",
        "neither compressed nor sent again"
    ];
    annotations: "`--annotation`", ["works", "works", "works"];
    lock: "the lock", [
        "pinned in the Dockerfile",
        "a source policy; the Dockerfile as it was written",
        "a source policy; the Dockerfile as it was written"
    ];
    heredoc: "heredocs without a syntax line", [
        "Dockerfile:3: dockerfile parse error line 3: unknown instruction: ECHO",
        "works",
        "works"
    ];
    link: "`COPY --link` without a syntax line", [
        "Dockerfile:2: dockerfile parse error line 2: Unknown flag: link",
        "works",
        "works"
    ];
    network: "`RUN --network` without a syntax line", [
        "Dockerfile:2: dockerfile parse error line 2: Unknown flag: network",
        "works",
        "works"
    ];
    cache_mounts: "cache mounts", ["one per project", "one per project", "one per project"];
    cancel: "cancel stops the container", ["works", "works", "works"];
    take: "an image described, and taken out", ["works", "works", "works"];
    new_layers: "`check`: new layers are inspected", [
        "in the Engine's own folders", "in the Engine's own folders", "in the image, taken out"
    ];
}

fn hold(kind: Kind, cell: &str, proof: fn(&Site) -> String) {
    assert_eq!(proof(&Site::on(kind)), cell, "docs/engines.md says otherwise of {}", kind.name());
}

/// As docs/engines.md has it.
fn rendered() -> String {
    let mut text =
        String::from("| | 20.10, overlay2 | 26.1, overlay2 | 26.1, containerd store |\n|---|---|---|---|\n");
    for Row { feature, cells: [old, new, containerd] } in ROWS {
        // Writing to a String cannot fail.
        writeln!(text, "| {feature} | {old} | {new} | {containerd} |").unwrap();
    }
    text
}

#[test]
fn the_document_says_what_the_tests_prove() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/engines.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let table = rendered();
    assert!(document.contains(&format!("\n\n{table}\n")), "docs/engines.md lacks this table:\n{table}");
    let refusal = podman::refusal("unix:///run/podman/podman.sock", "4.3.1");
    assert!(document.contains(&format!("\n{refusal}\n")), "docs/engines.md lacks this line:\n{refusal}");
}
