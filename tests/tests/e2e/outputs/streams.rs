//! Large results: never held whole, never sent twice.

use std::time::Duration;

use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, client};

use super::{large, to};
use crate::check::block_on;
use crate::faults::runners;

/// The largest resident memory that processes had while this was asked, in bytes.
#[derive(Default)]
struct Peak(u64);

impl Peak {
    fn look(&mut self, pids: &[u32]) {
        for pid in pids {
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let line = status.lines().find(|line| line.starts_with("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            self.0 = self.0.max(kib.unwrap_or_default() * 1024);
        }
    }
}

#[test]
fn a_large_layer_streams_through_worker_scheduler_and_client() {
    const SIZE: usize = 256 << 20;
    const BOUND: u64 = 96 << 20;
    let farm = Farm::start(1);
    let project = large(&unique("large"), SIZE);
    let dir = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    for output in [to("oci", &dir.path().join("image.tar")), to("tar", &dir.path().join("files.tar"))] {
        let mut client =
            farm.start_build(project.path(), &["--platform", &platform, "-o", &output], dir.path());
        let (mut runner, mut sender, mut receiver) = (Peak::default(), Peak::default(), Peak::default());
        let status = loop {
            runner.look(&runners(&farm, 0));
            sender.look(&[farm.scheduler_pid()]);
            receiver.look(&[client.id()]);
            if let Some(status) = client.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(dir.path().join("stderr")).unwrap());
        for (who, Peak(peak)) in [("runner", runner), ("scheduler", sender), ("client", receiver)] {
            assert!(peak < BOUND, "the {who} held {peak} bytes for {output}");
            assert!(peak > 0, "the {who} was not seen");
        }
    }
    let length = |name: &str| dir.path().join(name).metadata().unwrap().len();
    assert!(length("image.tar") > SIZE as u64 && length("files.tar") > SIZE as u64);
}

/// How many bytes a build's worker sent to the scheduler.
fn handed_over(farm: &Farm, build: &str) -> i64 {
    use archyard_proto::v1::log_frame::Frame;
    let frames = client::frames(&block_on(client::log(farm, build, 0)));
    let sent = frames.into_iter().filter_map(|frame| match frame.frame {
        Some(Frame::Status(status)) if status.vertex == "handover" => Some(status.total_bytes),
        _ => None,
    });
    sent.max().unwrap_or_default()
}

#[test]
fn what_the_scheduler_has_is_not_sent_again() {
    let farm = Farm::start(1);
    let marker = unique("again");
    let project = large(&marker, 32 << 20);
    let dockerfile = std::fs::read_to_string(project.join("Dockerfile")).unwrap();
    project.write("Dockerfile", format!("{dockerfile}RUN sleep 2; echo {marker}\n").as_bytes());
    let logs = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let args = ["--platform", &platform, "-o", "type=oci,dest=/dev/null"];
    // Its client goes away, so what it left stays with the scheduler.
    let mut client = farm.start_build(project.path(), &args, logs.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    client.kill().unwrap();
    client.wait().unwrap();
    let first = farm.newest_build().unwrap();
    wait_for("the build ends", PATIENCE, || (farm.show(&first)["state"] == "succeeded").then_some(()));
    assert!(handed_over(&farm, &first) > 32 << 20);

    project.write("Dockerfile", format!("{dockerfile}RUN echo {marker} > /more\n").as_bytes());
    farm.build(project.path(), &args).expect(0);
    let second = farm.newest_build().unwrap();
    let sent = handed_over(&farm, &second);
    assert!(sent > 0 && sent < 1 << 20, "{sent} bytes were sent again");
    // The first build's are still there, though the second's were fetched and went.
    farm.run(&["fetch", &first, "-o", "type=oci,dest=/dev/null"]).expect(0);
}
