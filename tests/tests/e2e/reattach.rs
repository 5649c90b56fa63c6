//! A build does not need its client: it goes on, and its log can be followed by another.

use archyard_proto::v1 as proto;
use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, client};
use futures_util::StreamExt as _;
use proto::build_service_client::BuildServiceClient;

use crate::check::block_on;

#[test]
fn logs_and_watch_go_on_after_the_client_died() {
    let farm = Farm::start(1);
    let marker = unique("reattach");
    let project = Project::new(&format!(
        "FROM BASE\nRUN for i in 1 2 3 4 5 6; do echo tick $i; sleep 1; done; echo {marker}\n"
    ));
    let out = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    client.kill().unwrap();
    client.wait().unwrap();
    let build = farm.newest_build().unwrap();
    assert_eq!(farm.show(&build)["state"], "running");

    let logs = farm.run(&["logs", "-f", &build]).expect(0);
    for tick in 1..=6 {
        assert!(logs.stdout.contains(&format!("tick {tick}")), "tick {tick} is not in\n{}", logs.stdout);
    }
    wait_for("the build ends", PATIENCE, || (farm.show(&build)["state"] == "succeeded").then_some(()));

    // Watching again from the middle gives the rest, without a gap.
    let (all, rest) = block_on(async {
        let mut builds = BuildServiceClient::new(client::connect(&farm).await);
        let mut seqs = Vec::new();
        for after_seq in [0, 2] {
            let request = proto::WatchBuildRequest { build_id: build.clone(), after_seq };
            let stream = builds.watch_build(request).await.unwrap().into_inner();
            seqs.push(stream.map(|event| event.unwrap().seq).collect::<Vec<_>>().await);
        }
        (seqs.remove(0), seqs.remove(0))
    });
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(rest, all[2..]);

    // And the log is the same bytes however often it is read.
    let once = block_on(client::log(&farm, &build, 0));
    assert_eq!(once, block_on(client::log(&farm, &build, 0)));
    client::frames(&once);
}
