//! Which role may call which RPC: one table, beside the [routes](super::routes()).
//!
//! An RPC without an entry cannot be called by anyone; a test compares the table with the services.

use tonic::Status;

use crate::tls::{Caller, Rights, Role};

const CLIENT: &[Role] = &[Role::Client];
const WORKER: &[Role] = &[Role::Worker];
const ANY: &[Role] = &Role::ALL;

/// Service and method, and the roles that may call it.
const TABLE: &[(&str, &[Role])] = &[
    ("archyard.v1.ArtifactService/FindMissing", WORKER),
    ("archyard.v1.ArtifactService/Upload", WORKER),
    ("archyard.v1.ArtifactService/Download", CLIENT),
    ("archyard.v1.ArtifactService/Release", CLIENT),
    ("archyard.v1.BuildService/SubmitBuild", CLIENT),
    ("archyard.v1.BuildService/GetBuild", CLIENT),
    ("archyard.v1.BuildService/ListBuilds", CLIENT),
    ("archyard.v1.BuildService/WatchBuild", CLIENT),
    ("archyard.v1.BuildService/ReadLog", CLIENT),
    ("archyard.v1.BuildService/CancelBuild", CLIENT),
    ("archyard.v1.BuildService/AttachBuild", CLIENT),
    ("archyard.v1.BuildService/SupplyContext", CLIENT),
    ("archyard.v1.BuildService/RerunBuild", CLIENT),
    ("archyard.v1.BuildService/PromoteBuild", CLIENT),
    ("archyard.v1.ContextService/FindMissing", CLIENT),
    ("archyard.v1.ContextService/Upload", CLIENT),
    ("archyard.v1.ContextService/Download", WORKER),
    ("archyard.v1.DiskService/GetDiskUsage", CLIENT),
    ("archyard.v1.DiskService/Prune", CLIENT),
    ("archyard.v1.FarmService/GetFarm", ANY),
    ("archyard.v1.FarmService/ListWorkers", CLIENT),
    ("archyard.v1.FarmService/DrainWorker", CLIENT),
    ("archyard.v1.WorkerService/Control", WORKER),
    ("archyard.v1.WorkerService/Spool", WORKER),
    ("grpc.health.v1.Health/Check", ANY),
    ("grpc.health.v1.Health/Watch", ANY),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANY),
];

/// Whether this caller may call the RPC at `path`, a request's `/SERVICE/METHOD`.
pub(super) fn authorize(caller: &Caller, path: &str) -> Result<(), Status> {
    let rpc = path.trim_start_matches('/');
    let Some((_, roles)) = TABLE.iter().find(|(known, _)| *known == rpc) else {
        return Err(Status::unimplemented(format!(
            "this scheduler has no RPC {rpc:?}; a client or worker that is newer than its scheduler asks for it: upgrade the \
             scheduler"
        )));
    };
    match caller.rights {
        Rights::All => Ok(()),
        Rights::Of(role) if roles.contains(&role) => Ok(()),
        Rights::Of(role) => Err(refused(caller, role, rpc, roles)),
    }
}

fn refused(caller: &Caller, role: Role, rpc: &str, roles: &[Role]) -> Status {
    let principal = &caller.principal;
    let wanted = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
    Status::permission_denied(format!(
        "{principal:?} has a certificate of the role {role} and may not call {rpc}; use a certificate that `archyard cert \
         issue --role {wanted}` wrote on the scheduler's machine"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use tonic::Code;

    use super::*;

    /// Every RPC that the scheduler serves.
    fn rpcs() -> BTreeSet<String> {
        let sets = [
            archyard_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        let mut rpcs = BTreeSet::new();
        for file in sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file) {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                rpcs.extend(service.method.iter().map(|method| format!("{service_name}/{}", method.name())));
            }
        }
        rpcs
    }

    fn caller(rights: Rights) -> Caller {
        Caller { principal: "alice".parse().unwrap(), rights }
    }

    #[test]
    fn every_rpc_has_one_entry_and_every_entry_is_an_rpc() {
        let entries: Vec<String> = TABLE.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
        let unique: BTreeSet<String> = entries.iter().cloned().collect();
        assert_eq!(entries.len(), unique.len(), "an RPC stands twice in the table");
        assert_eq!(unique, rpcs());
        assert!(TABLE.iter().all(|(_, roles)| !roles.is_empty()));
    }

    #[test]
    fn a_role_calls_what_the_table_says_and_nothing_else() {
        for (rpc, roles) in TABLE {
            for role in Role::ALL {
                let answer = authorize(&caller(Rights::Of(role)), &format!("/{rpc}"));
                assert_eq!(answer.is_ok(), roles.contains(&role), "{role} on {rpc}");
            }
            authorize(&caller(Rights::All), &format!("/{rpc}")).unwrap();
        }
    }

    #[test]
    fn a_refusal_names_the_principal_the_role_the_rpc_and_the_remedy() {
        let refused = authorize(&caller(Rights::Of(Role::Worker)), "/archyard.v1.BuildService/SubmitBuild");
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        for part in
            ["alice", "role worker", "archyard.v1.BuildService/SubmitBuild", "cert issue --role client"]
        {
            assert!(refused.message().contains(part), "{part}: {refused:?}");
        }
    }

    #[test]
    fn an_rpc_that_is_not_in_the_table_is_unimplemented_for_everyone() {
        for rights in [Rights::All, Rights::Of(Role::Client), Rights::Of(Role::Worker)] {
            let refused = authorize(&caller(rights), "/archyard.v1.BuildService/Unheard").unwrap_err();
            assert_eq!(refused.code(), Code::Unimplemented, "{rights:?}");
        }
    }
}
