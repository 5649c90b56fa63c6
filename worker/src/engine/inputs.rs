//! The context as an input that BuildKit is handed with the Solve, rather than one its Dockerfile frontend thinks up.
//!
//! The frontend of an Engine without source policy goes about it slowly: before each source it thinks up it finds out
//! anew which platforms the machine runs, by running a program of each, and it reads the context for an ignore file
//! first, which clients have long obeyed. What it loses with an input of ours is its choice of which paths to ask for,
//! so that is for contexts where reading all costs nothing.

use std::collections::HashMap;

use archyard_model::Sha256;
use bollard_buildkit_proto::pb::{Definition, Input, Op, OpMetadata, SourceOp, op};
use prost::Message as _;

/// What the frontend calls the context, and so does the session.
const CONTEXT: &str = "context";
/// As the frontend itself names the step.
const NAME: &str = "[internal] load build context";

/// The whole context of the session that has this id.
pub(super) fn whole_context(session: &str) -> HashMap<String, Definition> {
    let attributes = [("local.session", session), ("local.sharedkeyhint", CONTEXT)];
    let source = SourceOp {
        identifier: format!("local://{CONTEXT}"),
        attrs: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    };
    let source = Op { op: Some(op::Op::Source(source)), ..Op::default() }.encode_to_vec();
    let digest = Sha256::of(&source).to_string();
    // The last one only says which of the others is meant.
    let meant = Op { inputs: vec![Input { digest: digest.clone(), index: 0 }], ..Op::default() };
    let description = [("llb.customname".to_owned(), NAME.to_owned())].into();
    let definition = Definition {
        def: vec![source, meant.encode_to_vec()],
        metadata: [(digest, OpMetadata { description, ..OpMetadata::default() })].into(),
        source: None,
    };
    [(CONTEXT.to_owned(), definition)].into()
}
