//! What a runner was told, checked.

use std::io::{self, Read};

use archyard_model::convert::{self, JobSpec};
use archyard_model::{AttemptId, Failure, FailureClass, Invalid};
use prost::Message;
use secrecy::SecretString;

use crate::attempt::{Assignment, AttemptDir, Call, Credentials};
use crate::engine::Credential;
use crate::layout::Layout;
use crate::scheduler::Scheduler;

/// One message on standard input: all credentials of one attempt.
const MESSAGE_BYTES: u64 = 1024 * 1024;

/// The attempt, the job, and where everything is.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) attempt: AttemptId,
    pub(super) spec: JobSpec,
    pub(super) worker: String,
    pub(super) scheduler: Scheduler,
    pub(super) engine: String,
    pub(super) layout: Layout,
    pub(super) slot: u32,
    pub(super) layer_cache_bytes: u64,
    pub(super) tethered: bool,
    pub(super) source_policy: bool,
}

/// An order that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("no agent has finished this folder: lease.pb is missing")]
    Missing,
    #[error("what the agent wrote cannot be read: {0}")]
    Disk(#[from] io::Error),
    #[error("the lease is malformed: {0}; are scheduler and worker of one version?")]
    Malformed(#[from] Invalid),
    #[error("the credentials on standard input cannot be read: {0}")]
    Credentials(io::Error),
}

impl OrderError {
    pub(super) fn into_failure(self) -> Failure {
        Failure::new(FailureClass::Infrastructure, "lease_malformed", self.to_string())
    }
}

/// What the agent wrote, and whose folder this is.
pub(super) fn assignment(dir: &AttemptDir) -> Result<(AttemptId, Assignment), OrderError> {
    let mut told = dir.assignment()?.ok_or(OrderError::Missing)?;
    Ok((convert::attempt_from_proto(told.attempt.take())?, told))
}

impl Order {
    /// The order to run `attempt` that an agent wrote.
    pub(super) fn of(attempt: AttemptId, told: Assignment) -> Result<Self, OrderError> {
        let spec = told.spec.ok_or_else(|| Invalid::new("spec", "", "it is missing"))?;
        Ok(Self {
            attempt,
            spec: convert::spec_from_proto(spec)?,
            worker: told.worker,
            scheduler: Scheduler {
                endpoint: told.scheduler.parse()?,
                tls: (!told.tls.is_empty()).then(|| told.tls.into()),
            },
            engine: told.engine,
            layout: Layout::at(told.data_dir),
            slot: told.slot,
            layer_cache_bytes: told.layer_cache_bytes,
            tethered: told.tethered,
            source_policy: told.source_policy,
        })
    }
}

/// Which attempt a runner that was started ahead is to run. None when nobody calls any more.
pub(super) fn call(input: &mut impl Read) -> io::Result<Option<AttemptId>> {
    let Some(call) = message::<Call>(input)? else { return Ok(None) };
    convert::attempt_from_proto(call.attempt).map(Some).map_err(io::Error::other)
}

/// All credentials of the attempt. No message at all is none.
pub(super) fn credentials(input: &mut impl Read) -> Result<Vec<Credential>, OrderError> {
    let message = message::<Credentials>(input).map_err(OrderError::Credentials)?;
    let credential = |registry: archyard_proto::v1::RegistryCredential| {
        // An identity token goes without a user.
        let by_token = !registry.identity_token.is_empty();
        let (username, secret) = if by_token {
            (String::new(), registry.identity_token)
        } else {
            (registry.username, registry.password)
        };
        Credential { host: registry.host, username, secret: SecretString::from(secret) }
    };
    Ok(message.unwrap_or_default().registries.into_iter().map(credential).collect())
}

/// Reads one length-delimited message, and no byte after it; none where the input has ended.
fn message<M: Message + Default>(input: &mut impl Read) -> io::Result<Option<M>> {
    let Some(length) = length(input)? else { return Ok(None) };
    if length > MESSAGE_BYTES {
        let problem = format!("{length} bytes are too many; at most {MESSAGE_BYTES} are taken");
        return Err(io::Error::other(problem));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    input.read_exact(&mut bytes)?;
    M::decode(bytes.as_slice()).map(Some).map_err(io::Error::other)
}

/// A varint, byte by byte: nothing behind it may be taken from the stream.
fn length(input: &mut impl Read) -> io::Result<Option<u64>> {
    let mut length: u64 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let mut byte = [0];
        match input.read_exact(&mut byte) {
            Err(error) if shift == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        length |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(Some(length));
        }
    }
    Err(io::Error::other("their length is absurd"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use archyard_proto::v1::RegistryCredential;
    use secrecy::ExposeSecret as _;

    #[test]
    fn credentials_are_read_and_nothing_after_them() {
        let password = RegistryCredential {
            host: "registry.example".to_owned(),
            username: "u".to_owned(),
            password: "p".repeat(300),
            ..Default::default()
        };
        let token = RegistryCredential { identity_token: "t".to_owned(), ..password.clone() };
        let mut bytes = Credentials { registries: vec![password, token] }.encode_length_delimited_to_vec();
        bytes.extend(b"more");
        let mut input = bytes.as_slice();
        let read = credentials(&mut input).unwrap();
        assert_eq!(input, b"more");
        assert_eq!((read[0].username.as_str(), read[0].secret.expose_secret().len()), ("u", 300));
        assert_eq!((read[1].username.as_str(), read[1].secret.expose_secret()), ("", "t"));
    }

    #[test]
    fn a_call_comes_before_the_credentials() {
        let attempt = AttemptId::from_file_name("01M87KVWJ1HEMC1EZ0Y48B4CVT-0-3").unwrap();
        let sent = Call { attempt: Some(convert::attempt_to_proto(attempt)) };
        let bytes = [sent.encode_length_delimited_to_vec(), b"more".to_vec()].concat();
        let mut input = bytes.as_slice();
        assert_eq!((call(&mut input).unwrap(), input), (Some(attempt), b"more".as_slice()));
        assert_eq!(call(&mut io::empty()).unwrap(), None);
        for bad in [&[0][..], &bytes[..9], b"\x02no"] {
            assert!(call(&mut &*bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_input_is_no_credential_and_half_of_one_an_error() {
        assert!(credentials(&mut io::empty()).unwrap().is_empty());
        for bad in [&[5, 1][..], &[0xff; 9], &[0xff, 0xff, 0xff, 0x7f]] {
            assert!(matches!(credentials(&mut &*bad), Err(OrderError::Credentials(_))), "{bad:?}");
        }
    }
}
