//! A real registry behind a password: what a build's credentials are for.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::build::PushedManifest;
use archyard_model::{BuildId, FailureClass, Output, Plan, Sha256};
use archyard_proto::v1 as proto;
use archyard_scheduler::core::PublishOrder;
use archyard_scheduler::credentials::Set;
use archyard_scheduler::lock::resolve;
use archyard_scheduler::publish::publish;
use archyard_scheduler::registry::{Registries, Registry};
use xtask::registry::OwnRegistry;

use crate::fixture::plan;
use crate::publish::Journal;

const PATIENCE: Duration = Duration::from_secs(20);

fn client(plan: &Plan, address: &str, password: &str) -> Registry {
    let credential = proto::RegistryCredential {
        host: address.to_owned(),
        username: OwnRegistry::USER.to_owned(),
        password: password.to_owned(),
        identity_token: String::new(),
    };
    let set = Set::from_proto(vec![credential]).unwrap();
    Registries::default().of(plan, Arc::new(set)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_it_and_nothing_else_does() {
    let locked = OwnRegistry::locked().unwrap();
    let name = format!("{}/private:1", locked.address);
    let mut plan = plan(&name, &["linux/amd64"]);
    plan.credential_hosts = vec![locked.address.clone()];

    // With the password the registry says that there is no such image, which it tells nobody else.
    let login = format!("docker login {}", locked.address);
    let asked =
        resolve(&client(&plan, &locked.address, OwnRegistry::PASSWORD), &plan, PATIENCE).await.unwrap_err();
    assert_eq!(asked.code, "base_not_found", "{asked}");
    for (registry, says) in [
        (client(&plan, &locked.address, "wrong"), "does not let this account"),
        (Registries::default().of(&plan, Arc::default()).unwrap(), "anonymous"),
    ] {
        let denied = resolve(&registry, &plan, PATIENCE).await.unwrap_err();
        assert_eq!((denied.class, denied.code.as_str()), (FailureClass::User, "base_denied"), "{denied}");
        assert!(denied.message.contains(says) && denied.message.contains(&login), "{denied}");
        assert!(!denied.message.contains("wrong"), "a password is told: {denied}");
    }

    let manifest = PushedManifest {
        digest: Sha256::from_bytes([1; 32]),
        size: 1,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
    };
    plan.output = Output::Push;
    plan.tags = vec![name.parse().unwrap()];
    let order = PublishOrder {
        build: BuildId::from_parts(1, 1),
        images: vec![("linux/amd64".parse().unwrap(), manifest)],
        tags: plan.tags.clone(),
        plan: Arc::new(plan.clone()),
        cross: std::collections::BTreeMap::new(),
        promotion: None,
        index: None,
        attempt: 1,
    };
    let wrong = client(&plan, &locked.address, "wrong");
    let failed = publish(&wrong, &order, &Journal::default()).await.unwrap_err();
    assert_eq!((failed.retryable, failed.failure.code.as_str()), (false, "registry_denied"));
    assert!(failed.failure.message.contains(&login), "{}", failed.failure);

    // An index over nothing needs no images: all of the way to a moved tag is open with the password.
    let order = PublishOrder { images: Vec::new(), ..order };
    let right = client(&plan, &locked.address, OwnRegistry::PASSWORD);
    assert!(publish(&right, &order, &Journal::default()).await.unwrap());
    let failed = publish(&wrong, &order, &Journal::default()).await.unwrap_err();
    assert_eq!((failed.retryable, failed.failure.code.as_str()), (false, "registry_denied"));
}
