//! DiskService: what the scheduler keeps, and removing it.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::convert::time_to_proto;
use archyard_model::{Invalid, ProjectName};
use archyard_proto::v1 as proto;
use jiff::Timestamp;
use proto::disk_service_server::DiskService;
use tonic::{Request, Response, Status, async_trait};

use super::Shared;
use super::shared::caller;
use super::status::IntoStatus;
use crate::retention::{Class, Prune, Usage};

#[async_trait]
impl DiskService for Shared {
    async fn get_disk_usage(
        &self,
        request: Request<proto::GetDiskUsageRequest>,
    ) -> Result<Response<proto::GetDiskUsageResponse>, Status> {
        let message = request.into_inner();
        let only = project(&message.project)?;
        let retention = Arc::clone(&self.retention);
        let (disk_bytes, free_bytes) =
            self.blocking(move || retention.disk_bytes().map_err(IntoStatus::into_status)).await?;
        let kept = Arc::clone(&self.retention).usage().await.map_err(IntoStatus::into_status)?;
        let mut usages = Vec::new();
        for class in Class::ALL {
            let Some(of_class) = kept.get(&class) else { continue };
            if only.is_none() {
                usages.push(usage_to_proto(class, "", &of_class.total));
            }
            for (project, usage) in &of_class.projects {
                let asked = only.as_ref().map_or(message.by_project, |only| **project == *only.as_str());
                if asked {
                    usages.push(usage_to_proto(class, project, usage));
                }
            }
        }
        Ok(Response::new(proto::GetDiskUsageResponse { usages, disk_bytes, free_bytes }))
    }

    async fn prune(
        &self,
        request: Request<proto::PruneRequest>,
    ) -> Result<Response<proto::PruneResponse>, Status> {
        let principal = caller(&request)?;
        let prune = read(&request.into_inner()).map_err(IntoStatus::into_status)?;
        tracing::info!(%principal, ?prune, "prune requested");
        let freed = Arc::clone(&self.retention).prune(prune).await.map_err(IntoStatus::into_status)?;
        let pruned = |class: &Class| {
            let freed = freed.get(class)?;
            let class = class_to_proto(*class).into();
            Some(proto::Pruned { class, count: freed.count, bytes: freed.bytes })
        };
        let pruned = Class::ALL.iter().filter_map(pruned).collect();
        Ok(Response::new(proto::PruneResponse { pruned }))
    }
}

fn read(message: &proto::PruneRequest) -> Result<Prune, Invalid> {
    let mut classes = Vec::new();
    for class in message.classes() {
        let class = match class {
            proto::KeptClass::Contexts => Class::Contexts,
            proto::KeptClass::Logs => Class::Logs,
            proto::KeptClass::Records => Class::Records,
            proto::KeptClass::Artifacts => Class::Artifacts,
            proto::KeptClass::Unspecified => {
                let problem =
                    "expected contexts, logs, records or artifacts; upgrade the scheduler if it is another";
                return Err(Invalid::new("classes", class.as_str_name(), problem));
            }
        };
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    if classes.is_empty() {
        return Err(Invalid::new(
            "classes",
            "",
            "name at least one of contexts, logs, records and artifacts",
        ));
    }
    let project = match message.project.as_str() {
        "" => None,
        project => Some(project.parse::<ProjectName>()?.to_string()),
    };
    Ok(Prune {
        classes,
        older_than: Duration::from_millis(message.older_than_ms),
        keep_bytes: message.keep_bytes,
        project,
        dry_run: message.dry_run,
    })
}

fn project(text: &str) -> Result<Option<ProjectName>, Status> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error: Invalid| error.into_status()),
    }
}

fn class_to_proto(class: Class) -> proto::KeptClass {
    match class {
        Class::Contexts => proto::KeptClass::Contexts,
        Class::Logs => proto::KeptClass::Logs,
        Class::Records => proto::KeptClass::Records,
        Class::Artifacts => proto::KeptClass::Artifacts,
    }
}

fn usage_to_proto(class: Class, project: &str, usage: &Usage) -> proto::DiskUsage {
    let oldest = usage.oldest.and_then(|age| Timestamp::now().checked_sub(age).ok());
    proto::DiskUsage {
        class: class_to_proto(class).into(),
        project: project.to_owned(),
        count: usage.count,
        bytes: usage.bytes,
        reclaimable_bytes: usage.reclaimable,
        oldest_at: oldest.map(time_to_proto),
    }
}
