//! Every kind of Engine: what works on it, or how it refuses. docs/engines.md says the same, and is held to it.

mod podman;
mod proofs;
mod pushed;
mod site;
mod table;
