//! What a build has pushed, as the registry has it.

use archyard_tests::Project;
use archyard_tests::project::unique;
use serde_json::Value;
use xtask::oci::{self, Manifest};

use super::site::Site;

/// One platform's image, and the index over it.
pub(super) struct Pushed {
    pub(super) index: Manifest,
    pub(super) manifest: Manifest,
}

impl Pushed {
    /// Builds and pushes to a repository nobody used before.
    pub(super) fn by(site: &Site, project: &Project, args: &[&str]) -> Self {
        let (registry, repository) = (&site.farm.env.registry, unique("engine"));
        let name = format!("{registry}/{repository}:1");
        site.build(project, &[&["--push", "-t", &name], args].concat()).expect(0);
        let index = oci::get_manifest(registry, &repository, "1").unwrap();
        let digest = index.json["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let manifest = oci::get_manifest(registry, &repository, &digest).unwrap();
        Self { index, manifest }
    }

    pub(super) fn layers(&self) -> &Vec<Value> {
        self.manifest.json["layers"].as_array().unwrap()
    }
}
