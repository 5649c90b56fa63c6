//! WorkerService: the control stream. What a worker says goes to the driver; what the driver leaves for it goes down.

use std::time::Duration;

use archyard_model::convert::{
    attempt_from_proto, attempt_to_proto, failure_from_proto, image_from_proto, offer_from_proto,
    spec_to_proto,
};
use archyard_model::worker::PROTOCOL;
use archyard_model::{AttemptId, Invalid, Principal, WorkerOffer, limits};
use archyard_proto::v1 as proto;
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;
use proto::worker_service_server::WorkerService;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tracing::Instrument as _;

use super::Shared;
use super::shared::caller;
use super::spool;
use super::status::{IntoStatus, stopping};
use super::stream::{Gone, Sink, Stream, fed_by};
use crate::core::{ConnectionId, Downstream, Parting, RunningAttempt};
use crate::driver::{Messages, WorkerInput};

/// How long a worker may take to say Hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Messages that wait for a slow worker; more are merged in the driver's mailbox.
const DEPTH: usize = 16;
/// Attempts that a worker may name at once: running, stopping, and results not yet acknowledged.
const NAMED_ATTEMPTS: usize = 4 * limits::WORKER_SLOTS as usize;

#[async_trait]
impl WorkerService for Shared {
    type ControlStream = Stream<proto::SchedulerMessage>;
    type SpoolStream = Stream<proto::SpoolAck>;

    async fn control(
        &self,
        request: Request<Streaming<proto::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let principal = caller(&request)?;
        let mut up = request.into_inner();
        let hello = tokio::time::timeout(HELLO_PATIENCE, up.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the worker did not say Hello"))??;
        let Some(proto::WorkerMessage { message: Some(Up::Hello(hello)) }) = hello else {
            return Err(Status::invalid_argument("a control stream begins with Hello"));
        };
        let (offer, running) = read_hello(&hello, &principal)?;
        let worker = offer.name.clone();
        let connection = self.driver.connect_worker(offer, running).await.map_err(IntoStatus::into_status)?;
        let span = tracing::info_span!("worker", %worker, connection = connection.id.0);
        tracing::info!(parent: &span, version = %hello.version, engine = %hello.engine, "worker joined");
        let shared = self.clone();
        let stream = fed_by(self, DEPTH, |sink| {
            async move { serve(&shared, up, connection.id, connection.messages, &sink).await }
                .instrument(span)
        });
        Ok(Response::new(stream))
    }

    async fn spool(
        &self,
        request: Request<Streaming<proto::SpoolUpload>>,
    ) -> Result<Response<Self::SpoolStream>, Status> {
        Ok(Response::new(spool::receive(self, request.into_inner())))
    }
}

/// Both directions until one of them ends. Dropping `messages` tells the driver that the worker left.
async fn serve(
    shared: &Shared,
    mut up: Streaming<proto::WorkerMessage>,
    connection: ConnectionId,
    mut messages: Messages,
    sink: &Sink<proto::SchedulerMessage>,
) -> Result<(), Gone> {
    let ended = tokio::select! {
        ended = listen(shared, &mut up, connection) => ended,
        ended = talk(shared, &mut messages, sink) => ended?,
    };
    tracing::info!(reason = ended.message(), "worker left");
    match ended.code() {
        tonic::Code::Ok => Ok(()),
        _ => sink.fail(ended).await,
    }
}

/// Until the worker goes away or says what makes no sense.
async fn listen(
    shared: &Shared,
    up: &mut Streaming<proto::WorkerMessage>,
    connection: ConnectionId,
) -> Status {
    loop {
        let message = match up.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Status::ok("the worker closed its stream"),
            Err(status) => return status,
        };
        let input = match read_message(message) {
            Ok(input) => input,
            Err(invalid) => return invalid.into_status(),
        };
        if let Err(error) = shared.driver.worker_said(connection, input).await {
            return error.into_status();
        }
    }
}

/// Until the driver closes the mailbox.
async fn talk(
    shared: &Shared,
    messages: &mut Messages,
    sink: &Sink<proto::SchedulerMessage>,
) -> Result<Status, Gone> {
    while let Some(batch) = messages.next().await {
        for message in batch {
            sink.send(proto::SchedulerMessage { message: Some(write_message(shared, message)) }).await?;
        }
    }
    if shared.driver.is_stopped() {
        return Ok(stopping());
    }
    Ok(messages.parting().map_or_else(stopping, parted))
}

/// The end of a stream that the scheduler ends, in words for its log and for the worker.
fn parted(parting: Parting) -> Status {
    Status::aborted(match parting {
        Parting::Reconnected => "the same agent has connected again, and its newer stream goes on",
        Parting::Restarted => "the agent was restarted, and the newer process has connected",
        Parting::Namesake => {
            "another worker joined under this name, from another data folder; give each worker a --name of its own"
        }
        Parting::Silent => {
            "nothing was heard from the worker for a whole lease, so its attempts are tried elsewhere"
        }
    })
}

fn read_hello(
    hello: &proto::Hello,
    principal: &Principal,
) -> Result<(WorkerOffer, Vec<RunningAttempt>), Status> {
    if !(hello.protocol_min..=hello.protocol_max).contains(&PROTOCOL) {
        return Err(Status::failed_precondition(format!(
            "worker {:?} speaks protocol {} to {}, this scheduler {PROTOCOL}; upgrade the older of them",
            hello.name, hello.protocol_min, hello.protocol_max
        )));
    }
    let offer = offer_from_proto(hello).map_err(IntoStatus::into_status)?;
    if *principal != Principal::local() && principal.as_str() != offer.name.as_str() {
        return Err(Status::permission_denied(format!(
            "the certificate is {principal}'s and cannot speak for worker {}; set --name {principal}, or issue one with \
             `archyard cert issue --role worker {}`",
            offer.name, offer.name
        )));
    }
    let running = hello
        .running
        .iter()
        .map(|running| {
            let attempt = attempt_from_proto(running.attempt.clone())?;
            Ok(RunningAttempt { attempt, finished: running.finished })
        })
        .collect::<Result<Vec<_>, Invalid>>()
        .map_err(|error| error.of("hello.running").into_status())?;
    if running.len() > NAMED_ATTEMPTS {
        let problem = format!("a worker names at most {NAMED_ATTEMPTS} attempts");
        return Err(Invalid::new("hello.running", running.len(), problem).into_status());
    }
    Ok((offer, running))
}

fn read_message(message: proto::WorkerMessage) -> Result<WorkerInput, Invalid> {
    match message.message {
        None => {
            Err(Invalid::new("message", "", "it is empty, or of a newer protocol; upgrade the scheduler"))
        }
        Some(Up::Hello(_)) => Err(Invalid::new("hello", "", "it comes once, and first")),
        Some(Up::LeaseAccepted(accepted)) => {
            Ok(WorkerInput::LeaseAccepted { attempt: attempt_from_proto(accepted.attempt)? })
        }
        Some(Up::LeaseRejected(rejected)) => Ok(WorkerInput::LeaseRejected {
            attempt: attempt_from_proto(rejected.attempt)?,
            code: short("lease_rejected.code", rejected.code, 64)?,
            message: short("lease_rejected.message", rejected.message, limits::FAILURE_MESSAGE_BYTES)?,
        }),
        Some(Up::Heartbeat(heartbeat)) => {
            if heartbeat.running.len() > NAMED_ATTEMPTS {
                let problem = format!("a worker names at most {NAMED_ATTEMPTS} attempts");
                return Err(Invalid::new("heartbeat.running", heartbeat.running.len(), problem));
            }
            let running: Vec<AttemptId> = heartbeat
                .running
                .into_iter()
                .map(|attempt| attempt_from_proto(Some(attempt)))
                .collect::<Result<_, _>>()?;
            let problem =
                short("heartbeat.engine_problem", heartbeat.engine_problem, limits::FAILURE_MESSAGE_BYTES)?;
            let problem = (!problem.is_empty()).then_some(problem);
            Ok(WorkerInput::Heartbeat { sequence: heartbeat.sequence, running, problem })
        }
        Some(Up::Result(result)) => {
            let outcome = match (result.image, result.failure) {
                (Some(image), None) => Ok(image_from_proto(image)?),
                (None, Some(failure)) => Err(failure_from_proto(failure)?),
                _ => return Err(Invalid::new("result", "", "expected either an image or a failure")),
            };
            let warning = short("result.log_warning", result.log_warning, limits::FAILURE_MESSAGE_BYTES)?;
            Ok(WorkerInput::AttemptEnded {
                attempt: attempt_from_proto(result.attempt)?,
                outcome: Box::new(outcome),
                log_bytes: result.log_bytes,
                log_warning: (!warning.is_empty()).then_some(warning),
            })
        }
        Some(Up::DrainRequested(wish)) => Ok(WorkerInput::DrainRequested { draining: wish.draining }),
    }
}

fn short(field: &str, text: String, max: usize) -> Result<String, Invalid> {
    if text.len() > max {
        return Err(Invalid::new(field, text, format!("at most {max} bytes are taken")));
    }
    Ok(text)
}

fn write_message(shared: &Shared, message: Downstream) -> Down {
    let attempts = |attempts: Vec<AttemptId>| attempts.into_iter().map(attempt_to_proto).collect();
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match message {
        Downstream::Welcome { adopt, stop, draining } => Down::Welcome(proto::Welcome {
            protocol: PROTOCOL,
            adopt: attempts(adopt),
            stop: attempts(stop),
            heartbeat_ms: ms(shared.heartbeat),
            lease_ms: ms(shared.lease),
            draining,
        }),
        Downstream::Lease { attempt, spec } => Down::Lease(proto::Lease {
            attempt: Some(attempt_to_proto(attempt)),
            spec: Some(spec_to_proto(&spec)),
            credentials: shared.credentials.of(attempt.job.build).to_proto(),
        }),
        Downstream::Cancel { attempt, reason } => {
            Down::Cancel(proto::CancelAttempt { attempt: Some(attempt_to_proto(attempt)), reason })
        }
        Downstream::Drain { draining } => Down::Drain(proto::Drain { draining }),
        Downstream::ResultAck { attempt } => {
            Down::ResultAck(proto::ResultAck { attempt: Some(attempt_to_proto(attempt)) })
        }
        Downstream::HeartbeatAck { sequence } => Down::HeartbeatAck(proto::HeartbeatAck { sequence }),
    }
}
