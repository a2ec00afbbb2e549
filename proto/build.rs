//! Generates the messages, clients and servers of the three services, and the descriptors that reflection serves.

use std::{env, io, path::PathBuf};

const FILES: &[&str] = &["proto/feed.proto", "proto/profile.proto", "proto/topic.proto"];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    tonic_prost_build::configure()
        .build_transport(false)
        .file_descriptor_set_path(out.join("descriptors.bin"))
        .compile_protos(FILES, &["proto"])
}
