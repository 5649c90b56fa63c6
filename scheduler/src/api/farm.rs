//! FarmService: the workers, and what the scheduler is.

use archyard_model::convert::{attempt_to_proto, platform_to_proto, time_to_proto};
use archyard_model::worker::PROTOCOL;
use archyard_model::{Invalid, WorkerName};
use archyard_proto::v1 as proto;
use jiff::Timestamp;
use proto::farm_service_server::FarmService;
use tonic::{Request, Response, Status, async_trait};

use super::Shared;
use super::shared::caller;
use super::status::IntoStatus;
use crate::driver::{WorkerState, WorkerView};

#[async_trait]
impl FarmService for Shared {
    async fn get_farm(
        &self,
        request: Request<proto::GetFarmRequest>,
    ) -> Result<Response<proto::GetFarmResponse>, Status> {
        let principal = caller(&request)?;
        let counts = self.driver.counts().await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(proto::GetFarmResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            principal: principal.to_string(),
            queued_jobs: counts.queued_jobs,
            running_jobs: counts.running_jobs,
        }))
    }

    async fn list_workers(
        &self,
        _request: Request<proto::ListWorkersRequest>,
    ) -> Result<Response<proto::ListWorkersResponse>, Status> {
        let mut workers = self.driver.workers().await.map_err(IntoStatus::into_status)?;
        workers.sort_by(|a, b| a.offer.name.cmp(&b.offer.name));
        Ok(Response::new(proto::ListWorkersResponse {
            workers: workers.iter().map(worker_to_proto).collect(),
        }))
    }

    async fn drain_worker(
        &self,
        request: Request<proto::DrainWorkerRequest>,
    ) -> Result<Response<proto::DrainWorkerResponse>, Status> {
        let principal = caller(&request)?;
        let message = request.into_inner();
        let name: WorkerName =
            message.name.parse().map_err(|error: Invalid| error.of("name").into_status())?;
        let view =
            self.driver.drain(name, principal, message.draining).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(proto::DrainWorkerResponse { worker: view.as_ref().map(worker_to_proto) }))
    }
}

fn worker_to_proto(view: &WorkerView) -> proto::Worker {
    let offer = &view.offer;
    let state = match view.state {
        WorkerState::Ready => proto::WorkerState::Ready,
        WorkerState::Draining => proto::WorkerState::Draining,
        WorkerState::Lost => proto::WorkerState::Lost,
    };
    let connected = i64::try_from(view.connected_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    proto::Worker {
        name: offer.name.to_string(),
        state: state.into(),
        platforms: offer.platforms.iter().map(platform_to_proto).collect(),
        emulated: offer.emulated.iter().map(platform_to_proto).collect(),
        slots: offer.slots,
        used_slots: view.used_slots,
        labels: offer.labels.clone(),
        pool: offer.pool.to_string(),
        version: offer.version.clone(),
        engine: offer.engine.clone(),
        connected_at: connected.map(time_to_proto),
        running: view.running.iter().copied().map(attempt_to_proto).collect(),
        problem: view.problem.clone().unwrap_or_default(),
    }
}
