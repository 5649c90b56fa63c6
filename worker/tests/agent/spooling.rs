//! Logs arrive byte for byte, whatever breaks on the way.

use archyard_model::{Output, convert};
use archyard_proto::v1 as proto;
use proto::spool_upload::Message;

use crate::fixture::{Farm, attempt, lease, spec, until};
use crate::scheduler::adopt_all;

#[tokio::test]
async fn a_broken_stream_loses_and_doubles_nothing() {
    let mut farm = Farm::start();
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    let reference = convert::attempt_to_proto(id);
    let said: Vec<u8> = (0..900_000_u32).flat_map(u32::to_le_bytes).collect();
    farm.script.expect(id, said.len() as u64);
    control.lease(lease(id, &spec(Output::Check))).await;
    farm.script.say(id, &said);

    let mut spool = farm.scheduler.spool().await;
    spool.open(&reference, 0).await;
    let Some(Message::Data(data)) = spool.next().await.message else { panic!("no data") };
    assert!(data.data.len() <= archyard_model::limits::LOG_CHUNK_BYTES);
    // It holds a part of what was sent, and dies before it says so.
    let held = 100_001;
    drop(spool);

    let dir = farm.attempt_dir(id);
    until("it said all", || dir.spool_bytes() == said.len() as u64).await;
    farm.script.end(id);
    let mut spool = farm.scheduler.spool().await;
    let rest = spool.read_all(&reference, held).await;
    assert!(rest == said[usize::try_from(held).unwrap()..], "the log differs");
    assert_eq!(control.result().await.log_bytes, said.len() as u64);
}

#[tokio::test]
async fn lines_arrive_while_the_build_goes_on() {
    let (mut farm, _control, id) = Farm::leased(0).await;
    let reference = convert::attempt_to_proto(id);
    let mut spool = farm.scheduler.spool().await;
    spool.open(&reference, 0).await;
    for line in ["one\n", "two\n"] {
        farm.script.say(id, line.as_bytes());
        let Some(Message::Data(data)) = spool.next().await.message else { panic!("no data") };
        assert_eq!((data.data.as_ref(), data.last), (line.as_bytes(), false));
    }
}

#[tokio::test]
async fn a_refused_log_is_not_sent_and_keeps_no_folder() {
    let (mut farm, mut control, id) = Farm::leased(3).await;
    let reference = convert::attempt_to_proto(id);
    let mut spool = farm.scheduler.spool().await;
    assert!(matches!(spool.next().await.message, Some(Message::Open(_))));
    spool.ack(&reference, 0, true).await;
    farm.script.say(id, b"abc");
    let dir = farm.attempt_dir(id);
    until("it said something", || dir.spool_bytes() == 3).await;
    farm.script.end(id);
    control.result().await;
    control.acknowledge_result(&reference).await;
    until("its folder goes", || !dir.path().exists()).await;
}
