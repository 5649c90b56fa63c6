//! The table of docs/engines.md. Each cell is a test: the proof is run on that Engine, and what it comes back with
//! has to be what the cell says.

use std::path::Path;

use xtask::engine::Kind;

use super::site::Site;
use super::{podman, proofs};

/// One line of the table.
struct Row {
    feature: &'static str,
    cells: Cells,
}

/// What a proof finds on each kind of Engine, in the order of [`Kind::ALL`].
type Cells = [&'static str; Kind::ALL.len()];

/// The heads of the columns.
const COLUMNS: Cells =
    ["20.10, overlay2", "26.1, overlay2", "26.1, containerd store", "28, overlay2", "28, containerd store"];

const fn everywhere(cell: &'static str) -> Cells {
    [cell; Kind::ALL.len()]
}

const fn since_26(old: &'static str, new: &'static str) -> Cells {
    [old, new, new, new, new]
}

const fn by_store(overlay2: &'static str, containerd: &'static str) -> Cells {
    [overlay2, overlay2, containerd, overlay2, containerd]
}

/// A row is a feature, its cells, and under the row's name in [`proofs`] its proof.
macro_rules! table {
    ($($proof:ident: $feature:literal, $cells:expr;)+) => {
        const ROWS: &[Row] = &[$(Row { feature: $feature, cells: $cells }),+];

        $(mod $proof {
            use super::*;

            const CELLS: Cells = $cells;

            #[test]
            fn on_20_10() {
                hold(Kind::Host, CELLS, proofs::$proof);
            }

            #[test]
            fn on_26_1() {
                hold(Kind::Debian13Overlay, CELLS, proofs::$proof);
            }

            #[test]
            fn on_26_1_with_containerd_store() {
                hold(Kind::Debian13Containerd, CELLS, proofs::$proof);
            }

            #[test]
            fn on_28() {
                hold(Kind::SidOverlay, CELLS, proofs::$proof);
            }

            #[test]
            fn on_28_with_containerd_store() {
                hold(Kind::SidContainerd, CELLS, proofs::$proof);
            }
        })+
    };
}

table! {
    check: "`check`: built, nothing published", everywhere("works");
    failure: "a failure names file, line and exit code", everywhere("works");
    push: "`push`: media types", everywhere("OCI, gzip layers");
    base_layers: "`push`: a base's layers", everywhere("the same digests everywhere");
    copied_layers: "`push`: equal files copied in", since_26(
        "the Engine's own tar, so digests of its own",
        "the same digests on 26.1 and 28, with either store"
    );
    unchanged: "`push`: unchanged layers", everywhere("neither compressed nor sent again");
    annotations: "`--annotation`", everywhere("works");
    lock: "the lock", since_26(
        "pinned in the Dockerfile",
        "a source policy; the Dockerfile as it was written"
    );
    heredoc: "heredocs without a syntax line", since_26(
        "Dockerfile:3: dockerfile parse error line 3: unknown instruction: ECHO",
        "works"
    );
    link: "`COPY --link` without a syntax line", since_26(
        "Dockerfile:2: dockerfile parse error line 2: Unknown flag: link",
        "works"
    );
    network: "`RUN --network` without a syntax line", since_26(
        "Dockerfile:2: dockerfile parse error line 2: Unknown flag: network",
        "works"
    );
    cache_mounts: "cache mounts", everywhere("one per project");
    cancel: "cancel stops the container", everywhere("works");
    take: "an image described, and taken out", everywhere("works");
    new_layers: "`check`: new layers are inspected", by_store(
        "in the Engine's own folders",
        "in the image, taken out"
    );
}

fn hold(kind: Kind, cells: Cells, proof: fn(&Site) -> String) {
    let at = Kind::ALL.iter().position(|of| *of == kind).unwrap();
    assert_eq!(proof(&Site::on(kind)), cells[at], "docs/engines.md says otherwise of {}", kind.name());
}

/// As docs/engines.md has it.
fn rendered() -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&[&[""], &COLUMNS[..]].concat()).replace("|  |", "| |");
    text += &format!("|{}\n", "---|".repeat(COLUMNS.len() + 1));
    for Row { feature, cells } in ROWS {
        text += &line(&[&[*feature], &cells[..]].concat());
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
