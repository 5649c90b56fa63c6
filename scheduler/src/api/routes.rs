//! All services of a scheduler.

use archyard_model::limits;
use archyard_proto::v1 as proto;
use proto::artifact_service_server::ArtifactServiceServer;
use proto::build_service_server::BuildServiceServer;
use proto::context_service_server::ContextServiceServer;
use proto::disk_service_server::DiskServiceServer;
use proto::farm_service_server::FarmServiceServer;
use proto::worker_service_server::WorkerServiceServer;
use tonic::service::Routes;

use super::Shared;

/// The services, with gRPC health and reflection beside them.
pub async fn routes(shared: &Shared) -> Result<Routes, tonic_reflection::server::Error> {
    let builds = BuildServiceServer::new(shared.clone()).max_decoding_message_size(limits::MESSAGE_BYTES);
    let contexts = ContextServiceServer::new(shared.clone()).max_decoding_message_size(limits::MESSAGE_BYTES);
    let workers = WorkerServiceServer::new(shared.clone()).max_decoding_message_size(limits::MESSAGE_BYTES);
    let farm = FarmServiceServer::new(shared.clone()).max_decoding_message_size(limits::MESSAGE_BYTES);

    let artifacts =
        ArtifactServiceServer::new(shared.clone()).max_decoding_message_size(limits::MESSAGE_BYTES);

    let disk = DiskServiceServer::new(shared.clone()).max_decoding_message_size(limits::MESSAGE_BYTES);

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<BuildServiceServer<Shared>>().await;
    reporter.set_serving::<ContextServiceServer<Shared>>().await;
    reporter.set_serving::<WorkerServiceServer<Shared>>().await;
    reporter.set_serving::<FarmServiceServer<Shared>>().await;
    reporter.set_serving::<ArtifactServiceServer<Shared>>().await;
    reporter.set_serving::<DiskServiceServer<Shared>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(archyard_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;

    Ok(Routes::new(health)
        .add_service(reflection)
        .add_service(builds)
        .add_service(contexts)
        .add_service(workers)
        .add_service(farm)
        .add_service(artifacts)
        .add_service(disk))
}
