//! Compiles the `.proto` files without protoc: protox parses them, tonic-prost-build generates the code.

use std::path::PathBuf;

use prost::Message as _;

const FILES: &[&str] = &[
    "archyard/v1/types.proto",
    "archyard/v1/build.proto",
    "archyard/v1/context.proto",
    "archyard/v1/worker.proto",
    "archyard/v1/farm.proto",
    "archyard/v1/artifact.proto",
    "archyard/v1/disk.proto",
    "archyard/journal/v1/journal.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("archyard.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".archyard.v1.BlobPart")
        .bytes(".archyard.v1.ArtifactChunk")
        .bytes(".archyard.v1.LogChunk")
        .bytes(".archyard.v1.SpoolData")
        .bytes(".archyard.v1.LogFrame")
        .bytes(".archyard.journal.v1")
        .btree_map(".archyard")
        .compile_fds(descriptors)?;
    Ok(())
}
