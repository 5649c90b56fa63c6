//! Images that passed inspection before: a repeated build asks the same question, and the answer is the same.
//!
//! A question is the image and everything it is held against, so nothing is let pass that was not judged by the very
//! rules of now. What failed is not kept: it is judged again, for its error is worth the time.

use std::collections::BTreeMap;
use std::io;

use archyard_model::convert::{JobSpec, image_from_proto, image_to_proto};
use archyard_model::{ImageResult, Inspection, Sha256};
use archyard_proto::v1 as proto;
use prost::Message;
use proto::log_frame::Warning as WarningFrame;

use crate::inspect::{Store, Warning};

/// Raised when the rules of inspection change: what passed by the older ones is judged again.
const VERSION: u32 = 3;

/// All that is told of an image that passed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Passed {
    pub(super) inspection: Inspection,
    pub(super) warnings: Vec<Warning>,
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(message, optional, tag = "1")]
    image: Option<proto::ImageResult>,
    #[prost(message, repeated, tag = "2")]
    warnings: Vec<WarningFrame>,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
}

/// What an image of the Engine is asked for this job.
pub(super) fn question(spec: &JobSpec, image: Sha256) -> Sha256 {
    let JobSpec { platform, checks, output, dockerfile, dockerfile_name, target, .. } = spec;
    let asked = (
        (VERSION, env!("CARGO_PKG_VERSION")),
        (image, platform, checks, output.is_files()),
        (dockerfile, dockerfile_name, target),
    );
    Sha256::of(format!("{asked:?}").as_bytes())
}

impl Passed {
    /// The answer to a question that was asked before.
    pub(super) fn known(store: &Store, question: Sha256) -> Option<Self> {
        let kept = Kept::decode(store.answer(question)?.as_slice()).ok()?;
        let line = |line: u32| (line > 0).then_some(line);
        Some(Self {
            inspection: image_from_proto(kept.image?).ok()?.inspection?,
            warnings: kept
                .warnings
                .into_iter()
                .map(|warning| Warning { line: line(warning.line), message: warning.message })
                .collect(),
            labels: kept.labels,
        })
    }

    /// Remembers the answer.
    pub(super) fn keep(&self, store: &Store, question: Sha256) -> io::Result<()> {
        let image = ImageResult { inspection: Some(self.inspection.clone()), ..ImageResult::default() };
        let frame = |warning: &Warning| WarningFrame {
            message: warning.message.clone(),
            line: warning.line.unwrap_or_default(),
            ..WarningFrame::default()
        };
        let kept = Kept {
            image: Some(image_to_proto(&image)),
            warnings: self.warnings.iter().map(frame).collect(),
            labels: self.labels.clone(),
        };
        store.keep_answer(question, &kept.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use archyard_model::ForeignFile;

    use super::*;

    #[test]
    fn what_passed_is_told_again_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let foreign = ForeignFile { path: "/x".to_owned(), machine: "aarch64".to_owned() };
        let passed = Passed {
            inspection: Inspection {
                command: Some("/bin/app".to_owned()),
                machine: Some("x86-64".to_owned()),
                requires: None,
                foreign: vec![foreign],
                foreign_files: 1,
            },
            warnings: vec![
                Warning { message: "look at /x".to_owned(), line: Some(3) },
                Warning { message: "and elsewhere".to_owned(), line: None },
            ],
            labels: [("a".to_owned(), "b".to_owned())].into(),
        };
        let question = Sha256::from_bytes([1; 32]);
        assert_eq!(Passed::known(&store, question), None);
        passed.keep(&store, question).unwrap();
        assert_eq!(Passed::known(&store, question), Some(passed));
    }
}
